"""A KV cache that is written in place.

transformers' own dynamic cache is copied as a whole at every token, which for a long prompt costs more than the token.

Shapes: B rows, H heads, T positions, E head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

SPARE = 64  # positions of room made at a time


class GrowingLayer(DynamicLayer):
    """The keys and values (B, H, T, E) of one layer, views of tensors that have room for more positions."""

    keys: Tensor
    values: Tensor
    _room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new positions behind those that are there; returns all of them."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._room is None or end > self._room[0].shape[-2]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            self._room = (self._larger(self.keys, key_states, end), self._larger(self.values, value_states, end))
        keys, values = self._room
        keys[..., start:end, :] = key_states
        values[..., start:end, :] = value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        super().batch_repeat_interleave(repeats)
        self._room = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        super().batch_select_indices(indices)
        self._room = None

    @staticmethod
    def _larger(old: Tensor, new: Tensor, end: int) -> Tensor:
        """A tensor with room for `end` positions and some more, the old ones in it."""
        B, H, _, E = new.shape
        room = torch.empty(B, H, end + SPARE, E, dtype=new.dtype, device=new.device)
        if old.numel():
            room[..., : old.shape[-2], :] = old
        return room


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model: layers that see all positions grow in place, others (sliding windows) stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
