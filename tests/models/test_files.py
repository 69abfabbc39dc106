"""What is seen of a model when it is loaded: each defect of its files or weights is one sentence, before any work."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny_configs
import tiny_lms
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from raybridge.models import ahead, files, lm, names, probe
from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.reading import told_to
from raybridge.models.shape import positions_of

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory with a model and its tokenizer."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_lms.made(tiny_lms.config("llama")).save_pretrained(folder)
    tiny_lms.plain_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it to damage."""
    return shutil.copytree(whole, tmp_path / "model")


def refused(folder) -> str:
    """What loading says, in one line that names the model."""
    with pytest.raises(ValueError) as error:
        lm.load(str(folder), device="cpu")
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith(f"model {str(folder)!r}")
    return said


def change(folder, **weights) -> None:
    """Write other weights, or leave out those that are None."""
    kept = load_file(folder / WEIGHTS) | weights
    save_file(
        {name: weight for name, weight in kept.items() if weight is not None}, folder / WEIGHTS, metadata={"format": "pt"}
    )


def configure(folder, file, **settings) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_directory_with_everything_is_loaded(folder):
    assert lm.load(str(folder), device="cpu").source_alone is None


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused_and_nobody_is_asked(folder, monkeypatch, file):
    (folder / "own.py").write_text("raise SystemExit('this ran')\n")
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
    configure(folder, file, auto_map=own, **({"model_type": "own"} if file == "config.json" else {"tokenizer_class": "Own"}))
    asked = []
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    with pytest.raises(ValueError, match="contains custom code"):
        lm.load(str(folder), device="cpu")
    assert not asked


def test_a_head_that_the_file_lacks_is_no_random_head(folder):
    change(folder, **{"lm_head.weight": None})
    assert "lm_head.weight is not in the weights" in refused(folder)


def test_a_weight_of_another_shape_is_not_made_anew(folder):
    change(folder, **{"lm_head.weight": torch.zeros(3, 32)})
    assert "lm_head.weight is not in the weights" in refused(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(folder, value):
    name = "model.layers.1.mlp.up_proj.weight"
    weight = load_file(folder / WEIGHTS)[name]
    weight[3, 4] = value
    change(folder, **{name: weight})
    assert f"its weights are not finite, {name} for one" in refused(folder)


def test_a_directory_without_weights(folder):
    (folder / WEIGHTS).unlink()
    assert "there is no weight file in" in refused(folder)
    with pytest.raises(ValueError, match="there is no weight file in"):
        names.check(str(folder))


def test_a_directory_without_a_tokenizer(folder):
    for path in folder.glob("token*"):
        path.unlink()
    assert "there is no tokenizer in" in refused(folder)


def test_weights_that_were_cut_off(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:5000])
    assert "its weights cannot be read from" in refused(folder)


def test_a_tokenizer_that_is_no_json(folder):
    (folder / "tokenizer.json").write_text("{")
    assert "its tokenizer cannot be read from" in refused(folder)


def test_a_pad_token_without_an_embedding(folder):
    tokenizer = tiny_lms.plain_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(tiny_configs.VOCABULARY - tiny_lms.TOKENS)])
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    assert "its pad token has the id 264, and there are embeddings for 0..263 only" in refused(folder)


def test_a_vocabulary_smaller_than_the_tokenizer(folder):
    small = tiny_lms.config("llama")
    small.vocab_size = 200
    tiny_lms.made(small).save_pretrained(folder)
    assert "its tokenizer has 58 tokens beyond its 200 embeddings" in refused(folder)


def test_the_trap_a_token_for_images_that_text_does_not_hold_is_no_hindrance():
    tokenizer = tiny_lms.plain_tokenizer()
    tokenizer.add_tokens(
        [f"<{number}>" for number in range(tiny_configs.VOCABULARY - tiny_lms.TOKENS + 1)], special_tokens=True
    )
    model = FrozenLM("images", tiny_lms.made(tiny_lms.config("llama")), tokenizer)
    probe.check_tokens(model)
    tokenizer.chat_template = "<6>{{ messages }}"
    with pytest.raises(ValueError, match="1 tokens beyond its 264 embeddings, '<6>' for one"):
        probe.check_tokens(model)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.gguf", b"", "is empty"),
        ("model.GGUF", b"", "is empty"),
        ("model.gguf", b"PK\x03\x04", "does not begin with GGUF"),
    ],
)
def test_a_file_that_is_called_gguf_and_is_none(tmp_path, file, content, says):
    path = tmp_path / file
    path.write_bytes(content)
    assert says in refused(path)
    with pytest.raises(ValueError, match=says):
        names.check(str(path))


def test_a_gguf_file_that_breaks_off(tmp_path):
    path = tmp_path / "model.GGUF"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "cannot be read from" in refused(path)


def test_a_prompt_longer_than_the_models_positions_is_refused_with_the_numbers():
    model = tiny_lms.tiny("gpt2")
    long = [[*range(2, 132)]]
    with pytest.raises(ValueError, match="model 'gpt2' has 128 positions: 131 tokens are too many"):
        model.hidden_states([0], long, (1,))
    with pytest.raises(ValueError, match="has 128 positions: 132 tokens are too many"):
        model.answer_nll([model.text_piece(long)], [[1, 2]])
    with pytest.raises(ValueError, match="has 128 positions: 121 tokens and 8 new ones are too many"):
        greedy(model, [model.text_piece([long[0][:100]])], max_new_tokens=8, shared=[5] * 21)
    assert greedy(model, [model.text_piece([long[0][:100]])], max_new_tokens=8, shared=[5] * 20)[0].tokens <= 8


def test_positions_are_those_that_the_config_reaches():
    assert positions_of(tiny_lms.config("llama")) == 128
    assert positions_of(tiny_lms.config("mpt")) == 128
    assert positions_of(tiny_lms.config("mamba")) is positions_of(tiny_lms.config("bloom")) is None
    stretched = tiny_lms.config("llama")
    stretched.rope_parameters = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    assert positions_of(stretched) == 512


def test_a_tail_that_is_not_the_models_own_is_found_out(monkeypatch):
    model = FrozenLM("scaled", tiny_lms.made(tiny_lms.config("granite")), tiny_lms.tokenizer())
    monkeypatch.setattr(model, "head", lambda hidden: model.model.get_output_embeddings()(hidden))
    with pytest.raises(ValueError, match="its logits are not those that its head makes of its last hidden states"):
        probe.seen(model)


@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2", "gptj", "falcon_h1", "recurrent_gemma", "opt"])
def test_logits_are_the_models_own(name):
    model = tiny_lms.tiny(name)
    ids = torch.tensor([[3, 7, 11, 13]])
    with torch.no_grad():
        hidden = model.body(input_ids=ids, use_cache=False).last_hidden_state
        own = model.model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(model.logits(hidden), own)
    torch.testing.assert_close(model.logits(hidden[0]), own[0])


def test_a_bpe_tokenizer_that_asks_for_clean_spaces_is_decoded_without_a_warning(folder, caplog):
    configure(folder, "tokenizer_config.json", clean_up_tokenization_spaces=True)
    model = lm.load(str(folder), device="cpu")
    ids = model.tokenizer("He has 3 .", add_special_tokens=False).input_ids
    transformers_logging.enable_propagation()
    try:
        with caplog.at_level("WARNING"):
            assert model.text(ids) == model.tokenizer.backend_tokenizer.decode(ids)
    finally:
        transformers_logging.disable_propagation()
    assert "clean_up" not in caplog.text


def test_who_asks_is_told_how_far_a_model_is_read(folder):
    told = []
    with told_to(lambda name, done, of: told.append((name, done, of))):
        lm.load(str(folder), device="cpu")
    of = told[0][2]
    assert told == [(str(folder), done, of) for done in range(of + 1)]
    lm.load(str(folder), device="cpu")
    assert len(told) == of + 1  # nobody asks any more


def test_a_tokenizer_that_was_read_ahead_is_taken_once_and_not_where_its_files_have_changed(folder):
    name = str(folder)
    ahead.read(name)
    first, second = (lm.load(name, device="cpu").tokenizer for _ in range(2))
    ahead.read(name)
    (found,) = (one for stamped, one in files._ahead.items() if stamped[0] == name)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    changed = lm.load(name, device="cpu").tokenizer
    assert len({id(one) for one in (first, second, found, changed)}) == 4
    assert changed.chat_template
    assert not found.chat_template


def test_a_tokenizer_that_was_read_ahead_is_not_taken_where_a_named_chat_template_has_changed(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    named = folder / "additional_chat_templates" / "brief.jinja"
    named.parent.mkdir()
    named.write_text("{{ messages[0].content }}")
    ahead.read(str(folder))
    named.write_text("briefly: {{ messages[0].content }}")
    assert lm.load(str(folder), device="cpu").tokenizer.chat_template["brief"].startswith("briefly")
    named.unlink()
    ahead.read(str(folder))
    named.write_text("{{ messages[0].content }}")
    assert "brief" in lm.load(str(folder), device="cpu").tokenizer.chat_template
