"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) by one kernel each way.

transformers writes them in ten operations a layer, and torch goes back through them in twenty. One kernel costs the host more
than it saves the card, so it is for what is recorded.

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

from raybridge.models.kernels import in_few

NAME = "apply_rotary_pos_emb"  # of the function in each of transformers' models
ASKED = ("q", "k", "cos", "sin", "unsqueeze_dim")
POSITIONS = 2  # the dimension of them
Pair = tuple[Tensor, Tensor]


def rotated(q_BHTE: Tensor, k_BGTE: Tensor, cos_B1TE: Tensor, sin_B1TE: Tensor) -> Pair:
    """Both, the first half of each head's width turned into the second."""
    return _turned(q_BHTE, cos_B1TE, sin_B1TE), _turned(k_BGTE, cos_B1TE, sin_B1TE)


def turned_back(q_BHTE: Tensor, k_BGTE: Tensor, cos_B1TE: Tensor, sin_B1TE: Tensor) -> Pair:
    """The gradients of what was rotated."""
    return _turned_back(q_BHTE, cos_B1TE, sin_B1TE), _turned_back(k_BGTE, cos_B1TE, sin_B1TE)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-other, one], dim=-1) * sin).to(x.dtype)


def _turned_back(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = (x * sin).chunk(2, dim=-1)
    return (x * cos + torch.cat([other, -one], dim=-1)).to(x.dtype)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Pair:
        ctx.save_for_backward(cos, sin)
        return in_few(rotated, q.device, along=POSITIONS)(q, k, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        back = in_few(turned_back, gradients[0].device, along=POSITIONS)
        return *back(*gradients, *ctx.saved_tensors), None, None


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
    """Queries and keys at their positions, as transformers' models call for it."""
    given = q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    if q.shape[POSITIONS] > 1:
        found: Pair = _Rotation.apply(*given)
        return found
    # A position of each of many rows is as well many positions of one row, of which a kernel takes any number.
    one, other = _Rotation.apply(*(each.transpose(0, POSITIONS) for each in given))
    return one.transpose(0, POSITIONS), other.transpose(0, POSITIONS)


def _of_whole_heads(written: Callable[..., Pair]) -> Callable[..., Pair]:
    """A rotation by one kernel, and as it is written where a model turns a part of each head alone."""

    def chosen(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
        whole = cos.shape[-1] == q.shape[-1] == k.shape[-1]
        return (rotate if whole else written)(q, k, cos, sin, unsqueeze_dim)

    return chosen


@contextmanager
def rotating(model: nn.Module) -> Iterator[list[str]]:
    """Within it transformers' functions of a model rotate by one kernel, where that is what they do; in which modules."""
    modules = [sys.modules[name] for name in sorted({type(part).__module__ for part in model.modules()})]
    written = {module: getattr(module, NAME) for module in modules if hasattr(module, NAME)}
    ours = {module: function for module, function in written.items() if rotates_alike(function)}
    for module, function in ours.items():
        setattr(module, NAME, _of_whole_heads(function))
    try:
        yield [module.__name__ for module in ours]
    finally:
        for module, function in ours.items():
            setattr(module, NAME, function)


@cache
@torch.no_grad()
def rotates_alike(function: Callable[..., Pair]) -> bool:
    """Whether a function of a model is this rotation, seen on a few positions."""
    if tuple(signature(function).parameters) != ASKED:
        return False
    draw = torch.Generator().manual_seed(0)
    q, k, cos, sin = (torch.randn(*size, 3, 8, generator=draw) for size in ((2, 4), (2, 2), (2,), (2,)))
    wanted, made = function(q, k, cos, sin), rotated(q, k, cos.unsqueeze(1), sin.unsqueeze(1))
    return all(torch.allclose(one, other, atol=1e-6) for one, other in zip(wanted, made, strict=True))
