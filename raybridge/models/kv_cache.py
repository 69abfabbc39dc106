"""A KV cache that is written in place, and what a prompt weighs in one.

transformers' own dynamic cache is copied as a whole at every token, which for a long prompt costs more than the token.

Shapes: B rows, H heads, T positions, E head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from raybridge.models.shape import head_sizes

SPARE = 64  # positions of room made at a time


class GrowingLayer(DynamicLayer):
    """The keys and values (B, H, T, E) of one layer, views of tensors that have room for more positions."""

    keys: Tensor
    values: Tensor
    _room: tuple[Tensor, Tensor]
    _view: Tensor | None = None  # the keys as they were written last: others have no room behind them

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new positions behind those that are there; returns all of them."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._view is None or self.keys is not self._view or end > self._room[0].shape[-2]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            self._room = (self._larger(self.keys, key_states, end), self._larger(self.values, value_states, end))
        keys, values = self._room
        keys[..., start:end, :] = key_states
        values[..., start:end, :] = value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        self._view = self.keys
        return self.keys, self.values

    @staticmethod
    def _larger(old: Tensor, new: Tensor, end: int) -> Tensor:
        """A tensor with room for `end` positions and some more, the old ones in it."""
        B, H, _, E = new.shape
        room = torch.empty(B, H, end + SPARE, E, dtype=new.dtype, device=new.device)
        if old.numel():
            room[..., : old.shape[-2], :] = old
        return room

    @staticmethod
    def joined(layers: Sequence[GrowingLayer], parts: Sequence[Sequence[int]], gap_B: Tensor) -> GrowingLayer:
        """One layer of the rows of several, in their order, each moved right until all end in the last column.

        parts: the numbers of the rows that each holds; gap_B: how far a row ends before the last column. What comes in on the
        left is no position of a row.
        """
        length = max(layer.get_seq_length() for layer in layers)
        one = GrowingLayer()
        one.lazy_initialization(layers[0].keys, layers[0].values)
        keys, values = [layer.keys for layer in layers], [layer.values for layer in layers]
        one._room = (_right(keys, parts, gap_B, length), _right(values, parts, gap_B, length))
        one.keys, one.values = (room[..., :length, :] for room in one._room)
        one._view = one.keys
        return one


def _right(states: Sequence[Tensor], parts: Sequence[Sequence[int]], gap_B: Tensor, length: int) -> Tensor:
    """Room (B, H, T, E) with the states of all rows at the right end of the first `length` positions."""
    _, H, _, E = states[0].shape
    gap_B = gap_B.to(states[0].device)  # of several devices, each holds the cache of its own layers
    room = states[0].new_zeros(len(gap_B), H, length + SPARE, E)
    for rows, part in zip(parts, states, strict=True):
        start, row_B = length - part.shape[2], torch.tensor(rows).to(gap_B.device)
        place_BT = (torch.arange(start, length, device=gap_B.device) - gap_B[row_B].unsqueeze(1)).clamp(min=0)
        room[row_B, :, start:length] = part.gather(2, place_BT[:, None, :, None].expand(-1, H, -1, E))
    return room


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model. Layers that attend grow in place and keep every position: a sliding window is in their mask.

    transformers' own layers with a window forget what a prompt that is moved to the right would still need.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        GrowingLayer() if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) else layer for layer in cache.layers
    ]
    return cache


def joined(caches: Sequence[DynamicCache], parts: Sequence[Sequence[int]], gap_B: Tensor) -> DynamicCache:
    """One cache of the rows of several (see `GrowingLayer.joined`), layer by layer: the several are empty then."""
    whole = caches[0]
    layers = []
    while whole.layers:
        several = [cache.layers.pop(0) for cache in caches]
        told = [number for number, layer in enumerate(several) if layer.get_seq_length()]  # prompts may be empty
        some = GrowingLayer.joined([several[i] for i in told], [parts[i] for i in told], gap_B) if told else several[0]
        layers.append(some)
    whole.layers = layers
    return whole


def repeated(cache: DynamicCache, config: PreTrainedConfig, rows: int) -> DynamicCache:
    """A cache of so many rows that have all read what the one row of a cache has."""
    copy = growing_cache(config)
    for number, layer in enumerate(cache.layers):
        if layer.get_seq_length():
            copy.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return copy


def position_bytes(config: Any, value_bytes: int) -> int:
    """Bytes of a position's keys and values in a growing cache, which keeps every position whatever a layer's window."""
    text = config.get_text_config()
    sizes = head_sizes(text)
    if getattr(text, "kv_lora_rank", None):  # at the most: as the heads that it is made into
        size = text.qk_nope_head_dim + text.qk_rope_head_dim + text.v_head_dim
        return text.num_hidden_layers * text.num_attention_heads * size * value_bytes
    return 2 * sum(sizes) * _kv_heads(text) * value_bytes if sizes else 0


def kv_bytes(config: Any, tokens: int, *, value_bytes: int = 2) -> int:
    """Bytes of the KV cache of `tokens` tokens, from a transformers config: layers x KV heads x head size x 2 x bytes.

    Layers with a sliding window keep no more than the window; layers that reuse another's cache keep nothing.
    """
    text = config.get_text_config()
    if getattr(text, "kv_lora_rank", None):
        raise ValueError(f"{text.model_type} keeps a compressed KV cache (latent attention); its bytes are not counted here")
    if not head_sizes(text):
        raise ValueError(f"{text.model_type} has no attention; only attention layers' KV cache is counted")
    windows = _windows(text)  # layers behind these reuse what others keep
    sizes = head_sizes(text)[: len(windows)]
    kept = sum((min(tokens, window) if window else tokens) * size for window, size in zip(windows, sizes, strict=True))
    return 2 * kept * _kv_heads(text) * value_bytes


def _kv_heads(text: Any) -> int:
    """How many heads of keys and values each layer keeps."""
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        return 1
    heads: int = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return heads


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
