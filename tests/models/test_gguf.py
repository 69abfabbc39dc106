"""GGUF files: a tokenizer that is read otherwise than its file says is refused before a figure comes of it."""

from types import SimpleNamespace

import pytest
import torch
from gguf import GGUFWriter

from raybridge.models import files, gguf, lm, names


def written(folder, *, add_bos):
    """A GGUF file that holds nothing but what it says of a BOS."""
    path = folder / "model.gguf"
    writer = GGUFWriter(path, "llama")
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return str(path)


class Tokenizer:
    """One that begins text with a BOS, or not."""

    bos_token, bos_token_id = "<bos>", 2

    def __init__(self, *begins):
        self.begins = begins

    def __call__(self, text):
        return SimpleNamespace(input_ids=[*self.begins, *map(ord, text)])

    def __len__(self):
        return 256


def test_a_tokenizer_without_the_bos_that_its_file_asks_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="model 'some/gemma': its GGUF file says that text begins with '<bos>'"):
        gguf.check_asks_for_no_bos("some/gemma", Tokenizer(), written(tmp_path, add_bos=True))


@pytest.mark.parametrize("add_bos", [False, None])
def test_a_file_that_asks_for_no_bos_is_taken(tmp_path, add_bos):
    gguf.check_asks_for_no_bos("some/model", Tokenizer(), written(tmp_path, add_bos=add_bos))


def test_whether_text_begins_with_a_bos_is_seen():
    assert gguf.begins_with_bos(Tokenizer(2))
    assert not gguf.begins_with_bos(Tokenizer())


def test_a_gguf_file_is_named_apart_from_its_folder():
    assert gguf.place_and_options("/models/gemma/model.gguf") == ("/models/gemma", {"gguf_file": "model.gguf"})
    assert gguf.place_and_options("/models/gemma") == ("/models/gemma", {})


def test_a_misread_tokenizer_keeps_a_model_from_being_loaded(tmp_path, monkeypatch):
    """The trap of Gemma-3-270M under transformers 5.17: 2.745 nats a token instead of 1.660, and nobody told."""
    path = written(tmp_path, add_bos=True)
    monkeypatch.setattr(files.AutoTokenizer, "from_pretrained", lambda place, **told: Tokenizer())
    monkeypatch.setattr(names, "check", lambda name: None)
    with pytest.raises(ValueError, match=r"install transformers 5\.23 or later"):
        lm.load(path, device=torch.device("cpu"))
