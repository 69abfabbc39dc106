"""Models in 8 and 4 bits: how they are named, what they are by content, and what their maps compute."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny_lms
import torch
import torch.nn.functional as F
from transformers import LlamaConfig

from raybridge.models import bits, lm, names
from raybridge.models.identity import model_identity
from raybridge.models.memory import weight_bytes

TARGET = "pocket:target"


def test_a_name_says_in_how_many_bits():
    assert bits.parted("org/model") == ("org/model", bits.WHOLE)
    assert bits.parted("org/model:8bit") == ("org/model", 8)
    assert bits.parted("pocket:target:4bit") == (TARGET, 4)
    assert names.place(f"{TARGET}:4bit") == names.place(TARGET)
    assert names.config_of(f"{TARGET}:4bit") is names.config_of(TARGET)


@pytest.mark.parametrize("name", ["org/model:3bit", "org/model:16bit", "org/model:8bits", "org/model:4-bit"])
def test_other_numbers_are_refused_with_those_that_are_valid(name):
    with pytest.raises(
        ValueError, match=f"unknown number of bits '{name}'; valid: org/model:8bit, org/model:4bit; did you mean"
    ):
        names.place(name)


def test_bits_are_identity_and_a_name_without_them_is_what_it_was():
    whole, eight, four = (model_identity(f"{TARGET}{suffix}") for suffix in ("", ":8bit", ":4bit"))
    assert len({whole.weights, eight.weights, four.weights}) == 3
    assert whole.vocabulary == eight.vocabulary == four.vocabulary
    assert (eight.name, eight.text([5, 6]), eight.template) == (f"{TARGET}:8bit", whole.text([5, 6]), whole.template)


def test_without_bitsandbytes_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(bits, "find_spec", lambda name: None)
    names.check(TARGET)
    with pytest.raises(ValueError, match=r"model 'pocket:target:8bit': bitsandbytes is not installed.*raybridge\[bits\]"):
        lm.load(f"{TARGET}:8bit", device="cpu")


def test_what_cannot_be_packed_is_refused(tmp_path, monkeypatch):
    folder = shutil.copytree(names.place(TARGET), tmp_path / "packed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(ValueError, match="packed as they lie in its files"):
        names.check(f"{folder}:4bit")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ValueError, match="the weights of a GGUF file are read whole"):
        names.check(f"{file}:4bit")
    with pytest.raises(ValueError, match="`bytes` has nothing to pack"):
        names.check("bytes:4bit")


def levels_of(weight_ED: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    largest_E = weight_ED.abs().amax(1)
    return (weight_ED / largest_E.unsqueeze(1) * 127).round().to(torch.int8), largest_E


def test_a_map_in_8_bits_is_the_product_with_its_levels_and_so_is_its_gradient():
    torch.manual_seed(0)
    levels_ED, largest_E = levels_of(torch.randn(6, 5))
    one = bits.EightBits(levels_ED, largest_E, torch.nn.Parameter(torch.randn(6)))
    weight_ED = levels_ED.double() * largest_E.double().unsqueeze(1) / 127
    x = torch.randn(2, 3, 5, requires_grad=True)
    given = torch.randn(2, 3, 6)
    torch.testing.assert_close(one(x), F.linear(x.double(), weight_ED, one.bias.double()).float())
    (gradient,) = torch.autograd.grad(one(x), x, given)
    torch.testing.assert_close(gradient, (given.double() @ weight_ED).float())
    half = one(x.bfloat16())
    assert half.dtype == torch.float32  # as its bias
    assert (one.in_features, one.out_features) == (5, 6)
    assert not any(p.requires_grad for p in (one.weight, one.largest))


def test_a_map_in_8_bits_keeps_no_weight_for_its_gradient():
    levels_ED, largest_E = levels_of(torch.randn(64, 32))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        bits.EightBits(levels_ED, largest_E, None)(torch.randn(1, 32, requires_grad=True))
    assert {tensor.dtype for tensor in kept if tensor.numel() == 64 * 32} == {torch.int8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose rows are blocks of 64 weights, as bitsandbytes has them on CPUs."""
    shape = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    place = tmp_path_factory.mktemp("blocks")
    tiny_lms.made(LlamaConfig(vocab_size=tiny_lms.TOKENS + 6, bos_token_id=0, eos_token_id=1, **shape)).save_pretrained(place)
    tiny_lms.plain_tokenizer().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def packed(folder):
    pytest.importorskip("bitsandbytes", reason="an extra: pip install 'raybridge[bits]'")
    return {number: lm.load(f"{folder}:{number}bit", device="cpu") for number in (8, 4)}


@pytest.mark.filterwarnings("ignore")  # bitsandbytes' own
def test_packed_models_are_near_the_whole_one_the_nearer_the_more_bits(packed, folder):
    ids = torch.tensor([[5, 60, 7, 8, 9, 10]])
    whole = lm.load(str(folder), device="cpu").model(input_ids=ids).logits
    errors = {
        number: ((one.model(input_ids=ids).logits - whole).norm() / whole.norm()).item() for number, one in packed.items()
    }
    assert 0 < errors[8] < 0.03 < errors[4] < 0.5
    kinds = {number: type(one.model.model.layers[0].mlp.up_proj).__name__ for number, one in packed.items()}
    assert kinds == {8: "EightBits", 4: "Linear4bit"}
    assert packed[4].source_alone is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [8, 4])
def test_an_answer_of_a_packed_model_does_not_depend_on_what_stands_beside_it(packed, number):
    one = packed[number]
    rows = [[5, 6, 7, 8, 9], [200, 201], [30, 31, 32]]
    together = one.answer_nll([one.text_piece([[1, 2]] * 3)], rows)
    alone = one.answer_nll([one.text_piece([[1, 2]])], rows[:1])
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_the_prediction_counts_packed_weights_as_they_are(packed, folder):
    held = sum(p.numel() * (1 if p.element_size() == 1 else 2) for p in packed[8].model.parameters())
    assert weight_bytes(names.config_of(str(folder)), bits=8) == pytest.approx(held, rel=0.02)
    assert weight_bytes(names.config_of(str(folder))) > 1.5 * held
