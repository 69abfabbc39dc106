"""Rotations and gates by one kernel each way: transformers' numbers and gradients, and nothing that does otherwise."""

from __future__ import annotations

import functools
from contextlib import contextmanager

import pytest
import tiny_lms
import torch
from torch import nn
from torch.autograd import gradcheck

from raybridge.models import gated, kernels, partial, rotary
from raybridge.models.partial import joined

ROWS = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15]]
ROTATE_ALIKE = ("llama", "qwen2", "mistral", "gemma3", "phi", "stablelm", "gpt_neox", "phi3", "olmo2")  # gpt_neox: in part
ROTATE_OTHERWISE = ("glm", "gptj", "gpt2")  # pairs of neighbours; none by this function
GATE_ALIKE = ("llama", "qwen2", "mistral", "stablelm")
GATE_OTHERWISE = ("gemma3", "gpt2", "phi", "glm")  # by a GELU; without a gate; both halves by one map


def fresh(name: str):
    return tiny_lms.FrozenLM(name, tiny_lms.made(tiny_lms.config(name)), tiny_lms.tokenizer())


def read(lm):
    """States, and the gradient that goes back to soft tokens."""
    soft_BKD = torch.randn(2, 3, lm.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    nll = lm.answer_nll([lm.soft_piece(soft_BKD)], ROWS)
    return nll, torch.autograd.grad(nll.sum(), soft_BKD)[0]


@contextmanager
def rotating(lm):
    with rotary.rotating(lm.body) as found:
        assert found
        yield


@contextmanager
def gating(lm):
    assert len(lm._gated) == lm.depth
    with gated.gating(lm._gated):
        yield


@pytest.mark.parametrize(
    ("name", "way"), [*((name, rotating) for name in ROTATE_ALIKE), *((name, gating) for name in GATE_ALIKE)]
)
def test_one_kernel_gives_the_losses_and_gradients_of_many(name, way):
    lm = fresh(name)
    wanted = read(lm)
    with way(lm):
        torch.testing.assert_close(read(lm), wanted, rtol=1e-4, atol=1e-6)
    for one, other in zip(read(lm), wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["llama", "olmo2", "gpt_neox"])
def test_in_bf16_they_rotate_as_near_to_fp32(name):
    """Of olmo2 the angles are fp32, and what it rotates is bf16 again."""
    exact = read(fresh(name))
    half = fresh(name)
    half.model.bfloat16()
    many = read(half)
    with rotating(half):
        few = read(half)
    for one, other, wanted in zip(few, many, exact, strict=True):
        assert one.dtype == other.dtype
        assert (one - wanted).norm() <= 1.5 * (other - wanted).norm() + 1e-6


@pytest.mark.parametrize("name", ROTATE_OTHERWISE)
def test_what_rotates_otherwise_stays_as_it_is(name):
    with rotary.rotating(fresh(name).body) as found:
        assert not found


@pytest.mark.parametrize("name", GATE_OTHERWISE)
def test_what_gates_otherwise_stays_as_it_is(name):
    assert not fresh(name)._gated


def test_the_way_back_is_the_gradient_whatever_the_sines():
    draw = torch.Generator().manual_seed(0)
    q, k, cos, sin = (torch.randn(*size, 3, 4, generator=draw, dtype=torch.float64) for size in ((2, 4), (2, 2), (2,), (2,)))
    assert gradcheck(lambda q, k: rotary.rotate(q, k, cos, sin), (q.requires_grad_(), k.requires_grad_()))


def test_the_way_back_of_a_gate_is_its_gradient():
    draw = torch.Generator().manual_seed(0)
    gate, up = (nn.Linear(4, 6, bias=bias).double().requires_grad_(False) for bias in (False, True))
    x = torch.randn(3, 4, generator=draw, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: gated._Gated.apply(x, gate, up), x)


@pytest.fixture
def compiled(monkeypatch):
    """Functions in few kernels are compiled on a CPU as well, as far as to what each operation is."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    for room in (rotary, gated, partial):
        monkeypatch.setattr(room, "in_few", lambda function, device, along: kernels._compiled.__wrapped__(function, along))


def test_lengths_compile_no_rotation_anew(compiled):
    for number, T in enumerate((5, 9, 23)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            q, k, cos, sin = (torch.randn(1, *size) for size in ((T, 4, 8), (T, 2, 8), (T, 8), (T, 8)))
            q, k = q.transpose(1, 2), k.transpose(1, 2)
            wanted = rotary.rotated(q, k, cos[:, None], sin[:, None])
            torch.testing.assert_close(rotary.rotate(q, k, cos, sin), wanted)


def test_rows_of_one_position_compile_no_rotation_anew(compiled):
    """As slots have them."""
    for number, N in enumerate((5, 9, 23)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            q, k, cos, sin = (torch.randn(N, 1, *size) for size in ((4, 8), (2, 8), (8,), (8,)))
            q, k = q.transpose(1, 2), k.transpose(1, 2)
            wanted = rotary.rotated(q, k, cos[:, None], sin[:, None])
            torch.testing.assert_close(rotary.rotate(q, k, cos, sin), wanted)


def test_lengths_compile_no_gate_anew(compiled):
    gate, up = (nn.Linear(4, 8, bias=False).requires_grad_(False) for _ in range(2))
    for number, T in enumerate((5, 9, 23)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            x = torch.randn(1, T, 4, requires_grad=True)
            made = gated._Gated.apply(x, gate, up)
            torch.testing.assert_close(made, torch.nn.functional.silu(gate(x)) * up(x))
            made.sum().backward()


def test_lengths_compile_no_joint_anew(compiled):
    for number, M in enumerate((5, 9, 23)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            (own, prefix), (one, other) = torch.randn(2, M + 2, 4, 8), torch.randn(2, 4, M + 2)
            wanted = joined(own[2:], one.T[2:], prefix[2:], other.T[2:]), torch.logaddexp(one, other)[:, 2:]
            first = own[:2].clone()
            partial.join(own[2:], one[:, 2:], prefix[2:], other[:, 2:])
            torch.testing.assert_close((own[2:], one[:, 2:]), wanted)
            assert torch.equal(own[:2], first)
