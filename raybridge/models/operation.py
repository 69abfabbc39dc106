"""Attention of packed rows with a way back of its own, as one operation.

Shapes: N positions of the row, H query heads, G KV heads, E head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Attend = Callable[..., tuple[Tensor, Tensor]]
Back = Callable[..., tuple[Tensor, Tensor, Tensor]]


def operation(name: str, forward: Attend, back: Back) -> Attend:
    """A function of q (N, H, E), k, v (N, G, E), further tensors, the longest and a scale.

    forward: to the attention and its log-sum-exps (H, N). back: of the output's gradient, q, k, v, output, log-sum-exps and
    the rest as `forward` has it, to the gradients of q, k and v. Compiled code takes it as an operation that it does not look
    into; others call it without torch's dispatcher, which takes the host longer than a small layer takes a GPU.
    """
    opaque = torch.library.custom_op(name, forward, mutates_args=())
    opaque_back = torch.library.custom_op(f"{name}_back", back, mutates_args=())

    @opaque.register_fake
    def _(q_NHE: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        return q_NHE.new_empty(q_NHE.shape), q_NHE.new_empty((q_NHE.shape[1], q_NHE.shape[0]), dtype=torch.float32)

    @opaque_back.register_fake
    def _(grad_NHE: Tensor, q_NHE: Tensor, k_NGE: Tensor, v_NGE: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
        return q_NHE.new_empty(q_NHE.shape), k_NGE.new_empty(k_NGE.shape), v_NGE.new_empty(v_NGE.shape)

    def kept(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.longest, ctx.scale = inputs
        ctx.save_for_backward(*tensors, *output)

    def gone_back(by: Back, ctx: Any, grad_NHE: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *where, out, total = ctx.saved_tensors
        own = by(grad_NHE.contiguous(), q, k, v, out, total, *where, ctx.longest, ctx.scale)
        return *own, *[None] * (len(where) + 2)

    opaque.register_autograd(lambda ctx, grad, _: gone_back(opaque_back, ctx, grad), setup_context=kept)

    class Plain(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
            output = forward(*inputs)
            kept(ctx, inputs, output)
            ctx.mark_non_differentiable(output[1])
            ctx.set_materialize_grads(False)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
            return gone_back(back, ctx, gradients[0])

    def attend(*inputs: Any) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = opaque(*inputs) if torch.compiler.is_compiling() else Plain.apply(*inputs)
        return found

    return attend
