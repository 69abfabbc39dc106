"""Prompts of unequal length read into one cache, each as if it stood alone.

Shapes: B rows, T prompt positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from raybridge.models.frozen import FrozenLM
from raybridge.models.kv_cache import growing_cache, move_right
from raybridge.models.pieces import Piece, taken


@torch.no_grad()
def prefilled(lm: FrozenLM, prompt: Piece, shared: Sequence[int]) -> tuple[DynamicCache, Tensor, Tensor]:
    """A cache that holds the prompts, which of its columns are real, and the last state (B, D) of each prompt.

    The prompts are read with their pads behind them, where they change nothing, and then moved so that all end in the last
    column, the shared tokens directly before them.
    """
    cache = growing_cache(lm.model.config)
    B, T = prompt.mask_BT.shape
    length_B = prompt.mask_BT.sum(dim=1)
    states_BTD = prompt.embeds_BTD.new_zeros(B, 1, lm.width)
    if shared:
        states_1TD = lm.read_on(cache, lm.embed(torch.tensor([list(shared)], device=lm.device)))
        cache.reorder_cache(torch.zeros(B, dtype=torch.long, device=lm.device))
        states_BTD = states_1TD[:, -1:].expand(B, -1, -1)
    if T:
        with lm.injecting(prompt.injected):
            states_BTD = torch.cat([states_BTD, lm.read_on(cache, prompt.embeds_BTD)], dim=1)
    gap_B = T - length_B
    if gap_B.any():
        move_right(cache, gap_B)
    mask_BT = torch.arange(len(shared) + T, device=lm.device) >= gap_B.unsqueeze(1)
    return cache, mask_BT, taken(states_BTD, length_B.unsqueeze(1))[:, 0]
