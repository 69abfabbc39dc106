"""Rotary positions by one kernel each way: transformers' numbers and gradients, and nothing that rotates otherwise."""

import sys

import pytest
import tiny_lms
import torch
from torch.autograd import gradcheck

from raybridge.models import rotary

ROWS = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15]]
ALIKE = ("llama", "qwen2", "mistral", "gemma3", "phi", "stablelm")
OTHERWISE = ("glm", "gptj", "gpt2")  # pairs of neighbours; none by this function


@pytest.fixture
def by_eager(monkeypatch):
    """Nothing is compiled."""
    monkeypatch.setattr(rotary, "_in_one", lambda function: function)


def fresh(name: str):
    return tiny_lms.FrozenLM(name, tiny_lms.made(tiny_lms.config(name)), tiny_lms.tokenizer())


def read(lm):
    """States, and the gradient that goes back to soft tokens."""
    soft_BKD = torch.randn(2, 3, lm.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    nll = lm.answer_nll([lm.soft_piece(soft_BKD)], ROWS)
    return nll, torch.autograd.grad(nll.sum(), soft_BKD)[0]


@pytest.mark.parametrize("name", ALIKE)
def test_one_kernel_gives_the_losses_and_gradients_of_many(name, by_eager):
    lm = fresh(name)
    wanted = read(lm)
    assert rotary.in_one(lm.body)
    try:
        assert not rotary.in_one(lm.body), "once is enough"
        torch.testing.assert_close(read(lm), wanted, rtol=1e-4, atol=1e-6)
        with rotary.as_written(lm.body):
            for one, other in zip(read(lm), wanted, strict=True):
                assert torch.equal(one, other)
    finally:
        for module in {type(part).__module__ for part in lm.body.modules()}:
            ours = getattr(sys.modules[module], rotary.NAME, None)
            if hasattr(ours, "written"):
                setattr(sys.modules[module], rotary.NAME, ours.written)


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_rotates_otherwise_stays_as_it_is(name):
    assert not rotary.in_one(fresh(name).body)


def test_the_way_back_is_the_gradient_whatever_the_sines(by_eager):
    draw = torch.Generator().manual_seed(0)
    q, k, cos, sin = (torch.randn(*size, 3, 4, generator=draw, dtype=torch.float64) for size in ((2, 4), (2, 2), (2,), (2,)))
    assert gradcheck(lambda q, k: rotary.rotate(q, k, cos, sin), (q.requires_grad_(), k.requires_grad_()))


def test_lengths_compile_nothing_anew(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(rotary, "_in_one", lambda function: torch.compile(function, dynamic=True, backend="aot_eager"))
    for number, T in enumerate((5, 9, 23)):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            q, k, cos, sin = (torch.randn(1, *size) for size in ((T, 4, 8), (T, 2, 8), (T, 8), (T, 8)))
            q, k = q.transpose(1, 2), k.transpose(1, 2)
            wanted = rotary.rotated(q, k, cos[:, None], sin[:, None])
            torch.testing.assert_close(rotary.rotate(q, k, cos, sin), wanted)
