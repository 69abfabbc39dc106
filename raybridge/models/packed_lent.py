"""Packed attention of each sequence to a prompt that all share and to its own positions, with its gradient.

Two calls of flash attention, one for each part of the positions, joined by their log-sum-exps. The gradient of the queries is
the sum of both parts', and exact (`partial.backward`). The shared keys and values need none.

Shapes: N positions of all sequences, H query heads, G KV heads, P shared positions, E head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raybridge.models.operation import operation
from raybridge.models.partial import backward, flash, join


def _ends(bounds: Tensor, lent: int) -> tuple[Tensor, Tensor]:
    """The bounds of all positions as one sequence, and of the shared ones."""
    return torch.stack([bounds[0], bounds[-1]]), torch.arange(0, lent + 1, lent, dtype=torch.int32, device=bounds.device)


def _attend(
    q_NHE: Tensor,
    k_NGE: Tensor,
    v_NGE: Tensor,
    keys_PGE: Tensor,
    values_PGE: Tensor,
    bounds: Tensor,
    longest: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attention (N, H, E), causal within each sequence and to all shared positions, and its log-sum-exps (H, N)."""
    own_NHE, own_HN = flash(q_NHE, k_NGE, v_NGE, (bounds, bounds), (longest, longest), causal=True, scale=scale)
    size = q_NHE.shape[0], keys_PGE.shape[0]
    lent_NHE, lent_HN = flash(q_NHE, keys_PGE, values_PGE, _ends(bounds, size[1]), size, causal=False, scale=scale)
    for total_HN in (own_HN, lent_HN):
        assert total_HN.shape == (q_NHE.shape[1], q_NHE.shape[0]), f"log-sum-exps of shape {tuple(total_HN.shape)}"
    join(own_NHE, own_HN, lent_NHE, lent_HN)
    return own_NHE, own_HN


def _back(
    grad_NHE: Tensor,
    q_NHE: Tensor,
    k_NGE: Tensor,
    v_NGE: Tensor,
    out_NHE: Tensor,
    total_HN: Tensor,
    keys_PGE: Tensor,
    values_PGE: Tensor,
    bounds: Tensor,
    longest: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, own keys and own values."""
    whole = (out_NHE, total_HN)
    own_NHE, k_grad, v_grad = backward(
        grad_NHE, q_NHE, k_NGE, v_NGE, *whole, (bounds, bounds), (longest, longest), causal=True, scale=scale
    )
    size = q_NHE.shape[0], keys_PGE.shape[0]
    ends = _ends(bounds, size[1])
    lent_NHE, _, _ = backward(grad_NHE, q_NHE, keys_PGE, values_PGE, *whole, ends, size, causal=False, scale=scale)
    return own_NHE + lent_NHE, k_grad, v_grad


attend = operation(_attend, _back)
