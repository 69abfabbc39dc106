"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) by one kernel each way.

transformers writes them in ten operations a layer, and torch goes back through them in twenty: of what the host starts in a
training step, half.

Shapes: B rows, H query heads, G KV heads, T positions, E head size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

NAME = "apply_rotary_pos_emb"  # of the function in each of transformers' models
ASKED = ("q", "k", "cos", "sin", "unsqueeze_dim")
Pair = tuple[Tensor, Tensor]


def rotated(q_BHTE: Tensor, k_BGTE: Tensor, cos_B1TE: Tensor, sin_B1TE: Tensor) -> Pair:
    """Both, the first half of each head's width turned into the second."""
    return _turned(q_BHTE, cos_B1TE, sin_B1TE), _turned(k_BGTE, cos_B1TE, sin_B1TE)


def turned_back(q_BHTE: Tensor, k_BGTE: Tensor, cos_B1TE: Tensor, sin_B1TE: Tensor) -> Pair:
    """The gradients of what was rotated."""
    return _turned_back(q_BHTE, cos_B1TE, sin_B1TE), _turned_back(k_BGTE, cos_B1TE, sin_B1TE)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-other, one], dim=-1) * sin


def _turned_back(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = (x * sin).chunk(2, dim=-1)
    return x * cos + torch.cat([other, -one], dim=-1)


@cache
def _in_one(function: Callable[..., Pair]) -> Callable[..., Pair]:
    return torch.compile(function, dynamic=True)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Pair:
        ctx.save_for_backward(cos, sin)
        return _in_one(rotated)(q, k, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *_in_one(turned_back)(*gradients, *ctx.saved_tensors), None, None


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
    """Queries and keys at their positions, as transformers' models call for it."""
    found: Pair = _Rotation.apply(q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim))
    return found


def in_one(model: nn.Module) -> list[str]:
    """Have transformers' functions of a model rotate by one kernel, where that is what they do; in which of its modules."""
    modules = {type(part).__module__ for part in model.modules()}
    found = [name for name in sorted(modules) if _rotates_alike(getattr(sys.modules[name], NAME, None))]
    for name in found:
        setattr(sys.modules[name], NAME, _unless_decoded(getattr(sys.modules[name], NAME)))
    return found


def _unless_decoded(written: Callable[..., Pair]) -> Callable[..., Pair]:
    """A rotation by one kernel; of a single position, which is decoded in a graph of its own, as it is written."""

    def chosen(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
        return (written if cos.shape[-2] == 1 else rotate)(q, k, cos, sin, unsqueeze_dim)

    chosen.written = written  # type: ignore[attr-defined]
    return chosen


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Within it the functions of a model are transformers' own."""
    modules = [sys.modules[name] for name in {type(part).__module__ for part in model.modules()}]
    ours = [(module, getattr(module, NAME)) for module in modules if hasattr(getattr(module, NAME, None), "written")]
    for module, function in ours:
        setattr(module, NAME, function.written)
    try:
        yield
    finally:
        for module, function in ours:
            setattr(module, NAME, function)


@torch.no_grad()
def _rotates_alike(function: Callable[..., Pair] | None) -> bool:
    """Whether a function of a model is this rotation, seen on a few positions."""
    if function is None or hasattr(function, "written") or tuple(signature(function).parameters) != ASKED:
        return False
    draw = torch.Generator().manual_seed(0)
    q, k, cos, sin = (torch.randn(*size, 3, 8, generator=draw) for size in ((2, 4), (2, 2), (2,), (2,)))
    wanted, made = function(q, k, cos, sin), rotated(q, k, cos.unsqueeze(1), sin.unsqueeze(1))
    return all(torch.allclose(one, other, atol=1e-6) for one, other in zip(wanted, made, strict=True))
