"""What a transformers config says of a model's shape."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin

ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)  # the caches of plain attention; others keep a state besides, or alone
CACHES = (CacheLayerMixin, LinearAttentionCacheLayerMixin)  # what keeps anything; the layers of models that share caches do not
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")  # what configs call the number of positions


def positions_of(config: PreTrainedConfig) -> int | None:
    """How many positions a model has; None where there is no end to them."""
    text = config.get_text_config()
    limit = next((getattr(text, name) for name in POSITIONS if getattr(text, name, None)), None)
    rope = getattr(text, "rope_parameters", None) or {}
    return int(limit * rope.get("factor", 1)) if limit and rope.get("rope_type") in ("linear", "dynamic") else limit


def attends_only(config: PreTrainedConfig) -> bool:
    """Whether every layer is attention. Others carry a state from column to column, and a pad would be a step of it."""
    kinds = [type(layer) for layer in DynamicCache(config=config).layers]
    return all(kind in ATTENTION for kind in kinds if issubclass(kind, CACHES))


def head_sizes(config: Any) -> list[int]:
    """The sizes of the heads of each layer's attention; none where a model has no such heads."""
    text = config.get_text_config()
    if not hasattr(text, "num_attention_heads"):
        return []
    layers = getattr(text, "per_layer_config", None) or [text] * text.num_hidden_layers
    return [getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads for layer in layers]


def window_of(config: Any) -> int | None:
    """How far back the layers that see least see; None where every layer sees everything before a position."""
    text = config.get_text_config()
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((window for window in windows if window), default=None)


def without_weights(config: PreTrainedConfig) -> Any:
    """A model of this shape on torch's meta device: its parts are all there, and take no memory.

    In the precision that numbers have anyway: for another transformers sets that of every thread meanwhile.
    """
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(deepcopy(config), trust_remote_code=False, dtype=torch.get_default_dtype())
