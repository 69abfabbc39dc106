"""What a model's shape says of memory: its weights, and what layers keep for the way back."""

import pytest
import torch
from full_scale import LLAMA_8B, LLAMA_70B, MISTRAL_7B
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, LlamaConfig

from raybridge.models.memory import Member, activation_bytes, layer_bytes, weight_bytes


@pytest.mark.parametrize(("config", "billions"), [(MISTRAL_7B, 7.248), (LLAMA_8B, 8.030), (LLAMA_70B, 70.554)])
def test_weights_are_those_of_the_models_cards(config, billions):
    assert weight_bytes(config) == pytest.approx(2e9 * billions, rel=1e-3)


def test_packed_weights_leave_embeddings_and_head_as_they_are():
    ends = 2 * 2 * LLAMA_8B.vocab_size * LLAMA_8B.hidden_size
    whole = weight_bytes(LLAMA_8B)
    norms = 2 * (2 * 32 + 1) * 4096
    packed = (whole - ends - norms) / 16
    assert weight_bytes(LLAMA_8B, bits=8) == ends + norms + 8 * packed
    assert weight_bytes(LLAMA_8B, bits=4) == pytest.approx(ends + norms + 4.127 * packed, rel=1e-4)
    tied = LlamaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=1, tie_word_embeddings=True)
    apart = LlamaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=1, tie_word_embeddings=False)
    assert weight_bytes(apart) - weight_bytes(tied) == 2 * 1000 * 64


def kept_by(config: LlamaConfig, *, layers: int, positions: int = 64) -> float:
    """Bytes that a frozen model in bf16 keeps of a position for its backward pass, counted without a number computed."""
    kept: list[torch.Tensor] = []

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    shallow = LlamaConfig(**config.to_dict() | {"num_hidden_layers": layers, "vocab_size": 8})
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(shallow, dtype=torch.bfloat16).requires_grad_(False)
        embeds = torch.zeros(1, positions, shallow.hidden_size, dtype=torch.bfloat16).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            model.model(inputs_embeds=embeds, use_cache=False)
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for storage, size in sizes.items() if storage not in own) / positions


@pytest.mark.parametrize("config", [LLAMA_8B, LLAMA_70B])
def test_a_layer_keeps_what_autograd_keeps_of_it(config):
    """transformers itself repeats keys and values for every query head, which no pass here does."""
    repeated = 2 * 2 * (config.num_attention_heads - config.num_key_value_heads) * config.head_dim
    assert kept_by(config, layers=2) - kept_by(config, layers=1) == pytest.approx(layer_bytes(config) + repeated, rel=0.01)


def test_recomputed_layers_keep_their_inputs_and_one_layer_is_there_again():
    plain, again = (activation_bytes(LLAMA_8B, 100, recomputed=recomputed) for recomputed in (False, True))
    assert plain - again == 100 * (31 * layer_bytes(LLAMA_8B) - 32 * 2 * 4096)


@given(cards=st.integers(1, 8), bits=st.sampled_from([16, 8, 4]))
def test_what_lies_on_all_cards_is_the_model(cards, bits):
    member = Member(config=LLAMA_70B, bits=bits, cards=cards)
    assert sum(member.counts) == 80
    assert sum(map(member.weights, range(cards))) == weight_bytes(LLAMA_70B, bits=bits)
