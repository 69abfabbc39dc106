"""Attention to a prompt that all rows share, and to what is each row's own, joined exactly by their log-sum-exps.

Shared keys and values exist once, and the queries of all rows read them in one call (Juravsky et al. 2024, arXiv:2402.05099).

Shapes: B rows, H query heads, G KV heads, R = H / G, Q new positions, T of a row, P of the shared prompt, E head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)
ALIGNED = 8  # columns of a bias that memory-efficient attention reads at a time


def attended(
    q_BHQE: Tensor,
    k_BGTE: Tensor,
    v_BGTE: Tensor,
    shared: tuple[Tensor, Tensor],
    mask: Tensor | None,
    *,
    causal: bool,
    scale: float,
) -> Tensor:
    """Attention (B, H, Q, E) to the shared keys and values (1, G, P, E), all seen by every position, and to the row's own."""
    G, R = k_BGTE.shape[1], q_BHQE.shape[1] // k_BGTE.shape[1]
    B, _, Q, _ = q_BHQE.shape
    q_BGRQE = q_BHQE.unflatten(1, (G, R))
    own_BGRQE, own_BGRQ = _own(q_BGRQE, k_BGTE, v_BGTE, mask, causal=causal, scale=scale)
    q_1GNE = q_BGRQE.transpose(0, 1).flatten(1, 3).unsqueeze(0)  # without a mask, heads and rows are as well so many queries
    out_1GNE, sum_1GN = partial(q_1GNE, *shared, None, causal=False, scale=scale)
    shared_BGRQE, shared_BGRQ = (one.squeeze(0).unflatten(1, (B, R, Q)).transpose(0, 1) for one in (out_1GNE, sum_1GN))
    weight_BGRQ1 = torch.sigmoid(own_BGRQ - shared_BGRQ).unsqueeze(-1)
    return torch.lerp(shared_BGRQE.float(), own_BGRQE.float(), weight_BGRQ1).to(q_BHQE.dtype).flatten(1, 2)


def _own(
    q_BGRQE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, mask: Tensor | None, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention (B, G, R, Q, E) of each row to its own keys and values, and the log-sum-exp (B, G, R, Q) of its scores."""
    if q_BGRQE.shape[3] == 1:  # the heads of a group are as well so many queries of one head
        found = partial(q_BGRQE.squeeze(3), k_BGTE, v_BGTE, mask, causal=False, scale=scale)
        return found[0].unsqueeze(3), found[1].unsqueeze(3)
    heads = [partial(q_BGQE, k_BGTE, v_BGTE, mask, causal=causal, scale=scale) for q_BGQE in q_BGRQE.unbind(2)]
    return torch.stack([out for out, _ in heads], dim=2), torch.stack([total for _, total in heads], dim=2)


def partial(
    q_BGQE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, mask: Tensor | None, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention (B, G, Q, E) to some of the positions, and the log-sum-exp (B, G, Q) of the scores, in fp32.

    mask: what each position sees (B, 1, Q or 1, T), at least one.
    """
    bias = None if mask is None else _bias(mask, q_BGQE.dtype)
    if q_BGQE.device.type == "cpu":
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q_BGQE, k_BGTE, v_BGTE, 0.0, causal, attn_mask=bias, scale=scale
        )
    elif bias is None and q_BGQE.dtype in HALF:
        found = torch.ops.aten._scaled_dot_product_flash_attention(q_BGQE, k_BGTE, v_BGTE, 0.0, causal, False, scale=scale)
    else:
        bias = None if bias is None else bias.expand(*q_BGQE.shape[:3], -1)
        found = torch.ops.aten._scaled_dot_product_efficient_attention(
            q_BGQE, k_BGTE, v_BGTE, bias, True, 0.0, causal, scale=scale
        )
    return found[0], found[1][..., : q_BGQE.shape[2]]  # memory-efficient attention fills its sums up to a multiple of 32


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to the scores; its rows begin where kernels want them to."""
    T = mask.shape[-1]
    room = torch.zeros(*mask.shape[:-1], -(-T // ALIGNED) * ALIGNED, dtype=dtype, device=mask.device)
    return room[..., :T].masked_fill_(~mask, -torch.inf)
