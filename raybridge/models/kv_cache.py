"""A KV cache that is written in place, and what a prompt weighs in one.

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


def kv_bytes(config: Any, tokens: int, *, value_bytes: int = 2) -> int:
    """Bytes of the KV cache of `tokens` tokens, from a transformers config: layers x KV heads x head size x 2 x bytes.

    Layers with a sliding window keep no more than the window; layers that reuse another's cache keep nothing.
    """
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None):
        raise ValueError(f"{text.model_type} keeps a compressed KV cache (latent attention); its bytes are not counted here")
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        heads = 1
    else:
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kept = sum(min(tokens, window) if window else tokens for window in _windows(text))
    return 2 * kept * heads * size * value_bytes


def _windows(text: Any) -> list[int | None]:
    """The sliding window of each layer that keeps a cache; None where a layer keeps everything."""
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    kinds = getattr(text, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * text.num_hidden_layers
    other = set(kinds) - {"full_attention", "sliding_attention"}
    if other:
        raise ValueError(
            f"{text.model_type} has layers of kind {sorted(other)[0]!r}; only attention layers' KV cache is counted"
        )
    kinds = kinds[: len(kinds) - (getattr(text, "num_kv_shared_layers", None) or 0)]
    return [window if kind == "sliding_attention" else None for kind in kinds]
