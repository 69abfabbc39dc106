"""Packed attention of texts that go on from a beginning which the row has once, with its gradient.

In a row all beginnings come first and the texts behind them, those of one beginning next to each other. Two calls of flash
attention: each beginning and each text to its own positions, and the texts of a beginning to its positions. Of the texts both
are joined by their log-sum-exps (Juravsky et al. 2024, arXiv:2402.05099), and go back exactly (`partial.backward`): a
beginning's keys and values have the gradient that it gives itself and what its texts give.

Shapes: B beginnings, N positions of the row, H query heads, G KV heads, E head size.
"""

from __future__ import annotations

from torch import Tensor

from raybridge.models.operation import operation
from raybridge.models.partial import backward, flash, join

Sizes = tuple[int, int, int]


def _attend(
    q_NHE: Tensor,
    k_NGE: Tensor,
    v_NGE: Tensor,
    bounds: Tensor,
    starts: Tensor,
    forks: Tensor,
    sizes: Sizes,
    longest: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attention (N, H, E) and its log-sum-exps (H, N).

    bounds: of all beginnings and texts in the row. starts: (B + 1), of the beginnings. forks: (B + 1), of the texts of each
    beginning together, among those of all. sizes: how many positions all beginnings have, and the most that the texts of one
    have, and that one has.
    """
    first, longest_of = sizes[0], sizes[1:]
    out_NHE, total_HN = flash(q_NHE, k_NGE, v_NGE, (bounds, bounds), (longest, longest), causal=True, scale=scale)
    assert total_HN.shape == (q_NHE.shape[1], q_NHE.shape[0]), f"log-sum-exps of shape {tuple(total_HN.shape)}"
    own_MHE, own_HM = out_NHE[first:], total_HN[:, first:]
    more = q_NHE[first:], k_NGE[:first], v_NGE[:first]
    prefix_MHE, prefix_HM = flash(*more, (forks, starts), longest_of, causal=False, scale=scale)
    join(own_MHE, own_HM, prefix_MHE, prefix_HM)
    return out_NHE, total_HN


def _back(
    grad_NHE: Tensor,
    q_NHE: Tensor,
    k_NGE: Tensor,
    v_NGE: Tensor,
    out_NHE: Tensor,
    total_HN: Tensor,
    bounds: Tensor,
    starts: Tensor,
    forks: Tensor,
    sizes: Sizes,
    longest: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    first, longest_of = sizes[0], sizes[1:]
    given, told = (grad_NHE, q_NHE, k_NGE, v_NGE, out_NHE, total_HN), (longest, longest)
    q_grad, k_grad, v_grad = backward(*given, (bounds, bounds), told, causal=True, scale=scale)
    more = grad_NHE[first:], q_NHE[first:], k_NGE[:first], v_NGE[:first], out_NHE[first:], total_HN[:, first:].contiguous()
    parts = backward(*more, (forks, starts), longest_of, causal=False, scale=scale)
    for whole, part in zip((q_grad[first:], k_grad[:first], v_grad[:first]), parts, strict=True):
        whole.add_(part)
    return q_grad, k_grad, v_grad


attend = operation(_attend, _back)
