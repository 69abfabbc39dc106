"""Attention of packed rows with a way back of its own.

Shapes: N positions of the row, H query heads, G KV heads, E head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Attend = Callable[..., tuple[Tensor, Tensor]]
Back = Callable[..., tuple[Tensor, Tensor, Tensor]]


def operation(attend: Attend, back: Back) -> Attend:
    """A function of q (N, H, E), k, v (N, G, E) and what else it is told, with its gradient.

    attend: to the attention and its log-sum-exps (H, N), which have no gradient; tensors come first of what it is told. back:
    of the output's gradient, q, k, v, output, log-sum-exps and the rest as `attend` has it, to the gradients of q, k and v.
    """

    class Operation(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
            out_NHE, total_HN = attend(*given)
            tensors = [one for one in given if isinstance(one, Tensor)]
            ctx.save_for_backward(*tensors, out_NHE, total_HN)
            ctx.others = given[len(tensors) :]
            ctx.mark_non_differentiable(total_HN)
            ctx.set_materialize_grads(False)
            return out_NHE, total_HN

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
            q, k, v, *where, out, total = ctx.saved_tensors
            own = back(gradients[0].contiguous(), q, k, v, out, total, *where, *ctx.others)
            return *own, *[None] * (len(where) + len(ctx.others))

    def applied(*given: Any) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = Operation.apply(*given)
        return found

    return applied
