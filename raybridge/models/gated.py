"""The gate of an MLP (SwiGLU, Shazeer 2020, arXiv:2002.05202) by one kernel each way, for what is recorded.

It keeps two tensors for its way back where torch keeps three.

Shapes: D width, F inner width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.models.kernels import in_few

PARTS = ("gate_proj", "up_proj", "down_proj")  # of an MLP, as transformers calls its maps
NEAR = 2**-5  # relative: what is rounded once, beside what is rounded twice
TRIED = 16  # rows that an MLP is seen on


def gated(gate_F: Tensor, up_F: Tensor) -> Tensor:
    """One half (..., F) through a SiLU, times the other."""
    gate, up = (one.to(_exact(one)) for one in (gate_F, up_F))
    return (F.silu(gate) * up).to(gate_F.dtype)


def gated_back(grad_F: Tensor, gate_F: Tensor, up_F: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of both halves."""
    grad, gate, up = (one.to(_exact(one)) for one in (grad_F, gate_F, up_F))
    open_ = gate.sigmoid()
    of_gate = grad * up * open_ * (1 + gate * (1 - open_))
    return of_gate.to(gate_F.dtype), (grad * gate * open_).to(up_F.dtype)


def _exact(one: Tensor) -> torch.dtype:
    return torch.promote_types(one.dtype, torch.float32)


class _Gated(torch.autograd.Function):
    """Both halves and the gate. On the way back the second half's product is added to the first one's as it is made."""

    @staticmethod
    def forward(ctx: Any, x_D: Tensor, *halves: nn.Module) -> Tensor:
        ctx.maps = [cast(Tensor, one.weight) for one in halves]
        made_NF = [one(x_D).flatten(0, -2) for one in halves]
        ctx.save_for_backward(*made_NF)
        return in_few(gated, x_D.device, along=0)(*made_NF).unflatten(0, x_D.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_F, back = gradients[0], in_few(gated_back, gradients[0].device, along=0)
        (gate_FD, up_FD), (gate_NF, up_NF) = ctx.maps, back(grad_F.flatten(0, -2), *ctx.saved_tensors)
        x_ND = (gate_NF @ gate_FD).addmm_(up_NF, up_FD)
        return x_ND.unflatten(0, grad_F.shape[:-1]), None, None


def forward(mlp: nn.Module, x_D: Tensor) -> Tensor:
    """An MLP (..., D) whose maps do not change."""
    *halves, down = _maps(mlp)
    made: Tensor = down(_Gated.apply(x_D, *halves))
    return made


def _maps(mlp: nn.Module) -> list[nn.Module]:
    return [cast(nn.Module, getattr(mlp, name)) for name in PARTS]


@contextmanager
def gating(mlps: Sequence[nn.Module]) -> Iterator[None]:
    """Within it these MLPs (`gates_alike`) have one kernel for their gate."""
    for mlp in mlps:
        mlp.forward = MethodType(forward, mlp)
    try:
        yield
    finally:
        for mlp in mlps:
            del mlp.forward


@torch.no_grad()
def gates_alike(part: nn.Module) -> bool:
    """Whether a part is such an MLP and nothing else, seen on a few rows."""
    if {name for name, child in part.named_children() if next(child.parameters(), None) is not None} != set(PARTS):
        return False
    gate, up, down = _maps(part)
    if {type(one) for one in (gate, up)} != {nn.Linear}:  # with an update that trains, or packed to a few bits
        return False
    weight_FD = cast(Tensor, gate.weight)
    drawn = torch.randn(TRIED, weight_FD.shape[-1], generator=torch.Generator().manual_seed(0))
    x_D = drawn.to(weight_FD.device, weight_FD.dtype)
    wanted_D, made_D = part(x_D).float(), down(gated(gate(x_D), up(x_D))).float()
    return bool((made_D - wanted_D).norm() <= NEAR * wanted_D.norm())
