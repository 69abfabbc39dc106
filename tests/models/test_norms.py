"""RMS norms by one operation: the states of every architecture stay what they are, and so does what norms otherwise."""

import pytest
import tiny_lms
import torch
from tiny_configs import GROUPED
from torch import nn
from transformers import LlamaConfig
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from raybridge.models import norms

ROWS = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15]]
BY_RMS = ("llama", "qwen2", "qwen3", "mistral", "olmo2", "phi3")
OTHERWISE = ("gemma3", "gpt2", "gpt_neox")  # one and their weight; means are taken off; both


def fresh(name: str):
    return tiny_lms.FrozenLM(name, tiny_lms.made(tiny_lms.config(name)), tiny_lms.tokenizer())


@pytest.mark.parametrize("name", BY_RMS)
def test_one_operation_gives_the_states_of_eight(name):
    lm = fresh(name)
    wanted, mask = lm.states([0], ROWS, (1, lm.depth))
    count = norms.in_one(lm.body)
    assert count >= 2 * lm.depth + 1
    torch.testing.assert_close(lm.states([0], ROWS, (1, lm.depth))[0][mask], wanted[mask], rtol=1e-5, atol=1e-5)
    with norms.as_written(lm.body):
        assert torch.equal(lm.states([0], ROWS, (1, lm.depth))[0], wanted)
    assert norms.in_one(lm.body) == count


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_norms_otherwise_stays_as_it_is(name):
    assert norms.in_one(fresh(name).body) == 0


class FromOne(nn.Module):
    """Gemma's: one and its weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.eps, self.weight = 1e-6, nn.Parameter(torch.randn(width) * 0.1)
        self.weight.data[0] = 200.0

    def forward(self, x):
        return torch.nn.functional.rms_norm(x, self.weight.shape, 1 + self.weight, self.eps)


class Wants4D(nn.RMSNorm):
    def forward(self, x):
        _, _, _, _ = x.shape
        return super().forward(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [64, 4096])
def test_wide_ones_do_not_hide_what_they_do(width, dtype):
    torch.manual_seed(0)
    plain = nn.LayerNorm(width, eps=1e-5)
    biased, cohere, llama = nn.LayerNorm(width), CohereLayerNorm(width), LlamaRMSNorm(width)
    nn.init.normal_(biased.bias, std=0.02)
    llama.weight.data.normal_().mul_(0.5)
    llama.weight.data[0] = 40.0
    for other in (plain, biased, cohere, FromOne(width), Wants4D(width, eps=1e-6)):
        assert not norms.is_rms(other.to(dtype)), type(other).__name__
    assert norms.is_rms(llama.to(dtype))


def test_a_norm_of_two_arguments_is_none_of_them():
    class Gated(nn.RMSNorm):
        def forward(self, x, gate=None):
            return super().forward(x if gate is None else x * gate)

    assert norms.is_rms(nn.RMSNorm(8, eps=1e-6))
    assert not norms.is_rms(Gated(8, eps=1e-6))
    assert not norms.is_rms(nn.LayerNorm(8))


def test_layers_of_one_kind_share_their_compiled_code():
    torch._dynamo.reset()
    layers = tiny_lms.made(LlamaConfig(**GROUPED)).model.layers
    norms.in_one(layers)
    made = []

    def counted(graph, _):
        made.append(graph)
        return graph.forward

    x = torch.randn(2, 3, layers[0].input_layernorm.weight.shape[0])
    for layer in layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.compile(dynamic=True, backend=counted)
            torch.testing.assert_close(norm(x), norms.normed(norm, x))
    assert len(made) <= 2
