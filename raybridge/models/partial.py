"""Attention to a prompt that all rows share, and to what is each row's own, joined exactly by their log-sum-exps.

Shared keys and values exist once, and the queries of all rows read them in one call (Juravsky et al. 2024, arXiv:2402.05099).

Shapes: B rows, H query heads, G KV heads, R = H / G, Q new positions, T of a row, P of the shared prompt, E head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raybridge.models.kernels import in_few

HALF = (torch.bfloat16, torch.float16)
ALIGNED = 8  # columns of a bias that memory-efficient attention reads at a time


def attended(
    q_BHQE: Tensor,
    k_BGTE: Tensor,
    v_BGTE: Tensor,
    shared: tuple[Tensor, Tensor],
    bias: Tensor | None,
    *,
    causal: bool,
    scale: float,
) -> Tensor:
    """Attention (B, H, Q, E) to the shared keys and values (1, G, P, E), all seen by every position, and to the row's own.

    bias: what is added to the scores (B, 1, Q, T), minus infinity for what a position does not see (`bias_of`).
    """
    G, R = k_BGTE.shape[1], q_BHQE.shape[1] // k_BGTE.shape[1]
    B, _, Q, _ = q_BHQE.shape
    q_BGRQE = q_BHQE.unflatten(1, (G, R))
    own_BGRQE, own_BGRQ = _own(q_BGRQE, k_BGTE, v_BGTE, bias, causal=causal, scale=scale)
    q_1GNE = q_BGRQE.transpose(0, 1).flatten(1, 3).unsqueeze(0)  # without a mask, heads and rows are as well so many queries
    out_1GNE, sum_1GN = partial(q_1GNE, *shared, None, causal=False, scale=scale)
    shared_BGRQE, shared_BGRQ = (one.squeeze(0).unflatten(1, (B, R, Q)).transpose(0, 1) for one in (out_1GNE, sum_1GN))
    return joined(own_BGRQE, own_BGRQ, shared_BGRQE, shared_BGRQ).flatten(1, 2)


def joined(one: Tensor, one_sum: Tensor, other: Tensor, other_sum: Tensor) -> Tensor:
    """Attention (..., E) to all positions, from that to some and to the others, and the log-sum-exps (...) of their scores."""
    return torch.lerp(other.float(), one.float(), torch.sigmoid(one_sum - other_sum).unsqueeze(-1)).to(one.dtype)


def join(own_MHE: Tensor, own_HM: Tensor, other_MHE: Tensor, other_HM: Tensor) -> None:
    """Make, in their place, of packed attention to some positions and its log-sum-exps (H, M) those of these and the others."""
    in_few(_all_of, own_MHE.device, along=0)(own_MHE, own_HM.T, other_MHE, other_HM.T)


def _all_of(own_MHE: Tensor, own_MH: Tensor, other_MHE: Tensor, other_MH: Tensor) -> None:
    own_MHE.copy_(joined(own_MHE, own_MH, other_MHE, other_MH))
    own_MH.copy_(torch.logaddexp(own_MH, other_MH))


def _own(
    q_BGRQE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, bias: Tensor | None, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention (B, G, R, Q, E) of each row to its own keys and values, and the log-sum-exp (B, G, R, Q) of its scores."""
    if q_BGRQE.shape[3] == 1:  # the heads of a group are as well so many queries of one head
        found = partial(q_BGRQE.squeeze(3), k_BGTE, v_BGTE, bias, causal=False, scale=scale)
        return found[0].unsqueeze(3), found[1].unsqueeze(3)
    heads = [partial(q_BGQE, k_BGTE, v_BGTE, bias, causal=causal, scale=scale) for q_BGQE in q_BGRQE.unbind(2)]
    return torch.stack([out for out, _ in heads], dim=2), torch.stack([total for _, total in heads], dim=2)


def partial(
    q_BGQE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, bias: Tensor | None, *, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention (B, G, Q, E) to some of the positions, and the log-sum-exp (B, G, Q) of the scores, in fp32.

    bias: what is added to the scores (B, 1, Q or 1, T); each position sees at least one.
    """
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


def flash(
    q_MHE: Tensor,
    k_NGE: Tensor,
    v_NGE: Tensor,
    bounds: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    *,
    causal: bool,
    scale: float,
    **told: Any,
) -> tuple[Tensor, Tensor]:
    """Attention (M, H, E) of queries that stand one behind another to keys that do, and the log-sum-exp (H, M) of the scores.

    bounds: where each sequence begins and ends among the queries, and among the keys; longest: of each.
    """
    out_MHE, sum_HM, *_ = torch.ops.aten._flash_attention_forward(
        q_MHE, k_NGE, v_NGE, *bounds, *longest, 0.0, causal, False, scale=scale, **told
    )
    return out_MHE, sum_HM


def backward(
    grad_MHE: Tensor,
    q_MHE: Tensor,
    k_NGE: Tensor,
    v_NGE: Tensor,
    out_MHE: Tensor,
    total_HM: Tensor,
    bounds: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    *,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the queries, keys and values of `flash`, from output and log-sum-exp of all that the queries attended to.

    A part of the positions goes back as the whole softmax does where it is given the whole's: it computes the probabilities of
    its positions again, exp(score - total), and the term that all of them have, output times gradient. So the gradient of the
    queries is the sum of what all parts give, and exact.
    """
    seed, offset = (torch.empty(size, dtype=torch.uint64, device=q_MHE.device) for size in ((2,), ()))  # of no dropout
    given = (grad_MHE, q_MHE, k_NGE, v_NGE, out_MHE, total_HM, *bounds, *longest, 0.0, causal, seed, offset)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(*given, scale=scale)
    return found


def bias_of(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to the scores; its rows begin where kernels want them to."""
    T = mask.shape[-1]
    room = torch.zeros(*mask.shape[:-1], -(-T // ALIGNED) * ALIGNED, dtype=dtype, device=mask.device)
    return room[..., :T].masked_fill_(~mask, -torch.inf)
