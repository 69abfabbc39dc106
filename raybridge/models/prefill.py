"""Prompts of unequal length read into one cache, each as if it stood alone, and what follows them.

Shapes: B rows, T prompt positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from inspect import signature

import torch
from torch import Tensor
from torch.nn import Module
from transformers import DynamicCache

from raybridge.models.frozen import FrozenLM
from raybridge.models.kv_cache import growing_cache, move_right
from raybridge.models.pieces import Piece, positions, taken


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
        states_1TD = read_on(lm, cache, lm.embed(torch.tensor([list(shared)], device=lm.device)))
        cache.reorder_cache(torch.zeros(B, dtype=torch.long, device=lm.device))
        states_BTD = states_1TD[:, -1:].expand(B, -1, -1)
    if T:
        with lm.injecting(prompt.injected):
            states_BTD = torch.cat([states_BTD, read_on(lm, cache, prompt.embeds_BTD)], dim=1)
    gap_B = T - length_B
    if gap_B.any():
        move_right(cache, gap_B)
    mask_BT = torch.arange(len(shared) + T, device=lm.device) >= gap_B.unsqueeze(1)
    return cache, mask_BT, taken(states_BTD, length_B.unsqueeze(1))[:, 0]


@torch.no_grad()
def read_on(lm: FrozenLM, cache: DynamicCache, embeds_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Last hidden states (B, T, D) of what follows the tokens in a cache, which then holds them too.

    mask_BT: which of the columns of cache and embeddings are real, where pads stand before a row.
    """
    known = _arguments(lm.body.__class__)
    name = next((name for name in ("past_key_values", "cache_params") if name in known), None)
    if name is None:
        raise ValueError(f"{type(lm.model).__name__} takes no cache")
    told: dict[str, object] = {name: cache}
    if mask_BT is not None and lm.attends_only:  # recurrences are read without pads, and some take a mask of new tokens alone
        told["attention_mask"] = mask_BT
    if mask_BT is not None and "position_ids" in known:
        told["position_ids"] = positions(mask_BT)[:, -embeds_BTD.shape[1] :]
    with lm.grouped():
        states_BTD: Tensor = lm.body(inputs_embeds=embeds_BTD, use_cache=True, **told).last_hidden_state
    return states_BTD


@lru_cache
def _arguments(body: type[Module]) -> frozenset[str]:
    return frozenset(signature(body.forward).parameters)
