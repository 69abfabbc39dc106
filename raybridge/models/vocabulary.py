"""What a loss makes of logits, a number a row. Logits over a vocabulary of 100,000 are the largest tensors of a step.

They are made a chunk of rows at a time and never kept, nor made again: a number depends on the state of its own row alone, and
its gradient by that state, which is as wide as the state, is computed beside it (as for linear layers with cross-entropy in
Hsu et al. 2024, arXiv:2410.10989). Head and teacher are frozen.

Shapes: N rows, C rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2048  # rows whose logits exist at one time, at least
LOGITS = 2**28  # of a chunk that has more rows than that: over a small vocabulary so few rows are too little work for a GPU
STEP = 128  # rows of a chunk are a multiple of

Function = Callable[..., Tensor]


def token_nll(logits_CV: Tensor, ids_C: Tensor) -> Tensor:
    """NLL (C) of a token a row, in fp32."""
    return F.cross_entropy(logits_CV.float(), ids_C, reduction="none")


def rows_at_once(vocabulary: int) -> int:
    """Rows of a chunk."""
    return max(CHUNK, LOGITS // vocabulary // STEP * STEP)


def per_row(function: Function, states_ND: Tensor, *others_N: Tensor, vocabulary: int) -> Tensor:
    """A function (C) of the rows of all these tensors, each from its own row alone; a gradient goes back to the states.

    vocabulary: over how many tokens it makes logits.
    """
    wanted = torch.is_grad_enabled() and states_ND.requires_grad
    values: Tensor = _PerRow.apply(function, rows_at_once(vocabulary), wanted, states_ND, *others_N)
    return values


class _PerRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, chunk: int, wanted: bool, *rows: Tensor) -> Tensor:
        found, gradients = [], []
        for states_CD, *others_C in zip(*(tensor.detach().split(chunk) for tensor in rows), strict=True):
            with torch.set_grad_enabled(wanted):
                of_C = function(states_CD.requires_grad_(wanted), *others_C)
            if wanted:
                gradients += torch.autograd.grad(of_C, states_CD, torch.ones_like(of_C))
            found.append(of_C.detach())
        ctx.others = len(rows) - 1
        if wanted:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_ND,) = ctx.saved_tensors
        return None, None, None, (given[0].unsqueeze(1) * gradient_ND).to(gradient_ND.dtype), *[None] * ctx.others
