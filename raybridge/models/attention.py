"""Attention over padded rows that takes grouped heads as they are: keys and values are never repeated for the query heads.

With a mask a GPU has memory-efficient attention alone, which takes no grouped heads; transformers repeats them for it.

Shapes: B rows, H query heads, G KV heads, R = H / G query heads of each, Q new positions, T positions, E head size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache

from raybridge.models.lent import behind, lent_to, seeing
from raybridge.models.partial import attended, bias_of

NAME = "raybridge_grouped"  # of the attention, among those that transformers knows


def takes_heads_grouped(model: Any) -> bool:
    """Whether a model's attention can be this one: scaled dot products alone, found by its name at every pass.

    Bounded scores (Gemma 2) and sinks (gpt-oss) are no scaled dot products, and older models hold an attention of their own.
    """
    return bool(model._supports_attention_backend) and model.config.get_text_config()._attn_implementation == "sdpa"


@contextmanager
def attending(model: Any, name: str) -> Iterator[None]:
    """Passes within it attend by another of the functions that transformers knows."""
    config = model.config.get_text_config()
    usual = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = usual


def grouped(
    q_BHQE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, mask: Tensor | None, *, causal: bool, scale: float | None
) -> Tensor:
    """Attention (B, H, Q, E) of query heads to the keys and values of their groups.

    mask: what each position sees (B, 1, Q, T), or a number added to its score; causal: each sees those up to it, where Q = T.
    """
    G, H, Q = k_BGTE.shape[1], *q_BHQE.shape[1:3]
    if G == H:
        return F.scaled_dot_product_attention(q_BHQE, k_BGTE, v_BGTE, attn_mask=mask, is_causal=causal, scale=scale)
    if Q == 1 and (mask is None or mask.shape[1] == 1):  # the heads of a group are as well so many queries of one head
        q_BGRE = q_BHQE.unflatten(1, (G, -1)).squeeze(3)
        return F.scaled_dot_product_attention(q_BGRE, k_BGTE, v_BGTE, attn_mask=mask, scale=scale).flatten(1, 2).unsqueeze(2)
    if mask is None or q_BHQE.device.type == "cpu":
        return F.scaled_dot_product_attention(
            q_BHQE, k_BGTE, v_BGTE, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True
        )
    return head_by_head(q_BHQE, k_BGTE, v_BGTE, mask, scale=scale)


def head_by_head(q_BHQE: Tensor, k_BGTE: Tensor, v_BGTE: Tensor, mask: Tensor, *, scale: float | None) -> Tensor:
    """Attention (B, H, Q, E) by one call for all first heads of the groups, one for all second heads, and so on."""
    G, R = k_BGTE.shape[1], q_BHQE.shape[1] // k_BGTE.shape[1]
    masks = [mask] * R if mask.shape[1] == 1 else mask.unflatten(1, (G, R)).unbind(2)
    heads = [
        F.scaled_dot_product_attention(q_BGQE, k_BGTE, v_BGTE, attn_mask=one, scale=scale)
        for q_BGQE, one in zip(q_BHQE.unflatten(1, (G, R)).unbind(2), masks, strict=True)
    ]
    return torch.stack(heads, dim=2).flatten(1, 2)


def check_plain(
    *, position_bias: Tensor | None = None, softcap: float | None = None, s_aux: Tensor | None = None, **_: object
) -> None:
    """Assert that a layer asks for scaled dot products and nothing else."""
    assert softcap is None, "see `takes_heads_grouped`"
    assert s_aux is None, "see `takes_heads_grouped`"
    assert position_bias is None, "a bias by position belongs to encoders"


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    prefix: Cache | None = None,
    lent: bool = False,
    **told: Any,
) -> tuple[Tensor, None]:
    """The attention of a transformers layer: query (B, H, Q, E), key and value (B, G, T, E) to (B, Q, H, E).

    prefix: the keys and values of a prompt that all rows share and every position sees. lent: whether every position sees as
    well what the layer was lent (`models.lent`), through which a gradient goes back.
    """
    check_plain(**told)
    asked = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = asked and attention_mask is None and query.shape[2] > 1
    if lent:
        keys_1GPE, values_1GPE = lent_to(module)
        attention_mask = seeing(attention_mask, query.shape[2], keys_1GPE.shape[2], query.device)
        key, value, causal = behind(keys_1GPE, key), behind(values_1GPE, value), False
    if prefix is None:
        out_BHQE = grouped(query, key, value, attention_mask, causal=causal, scale=scaling)
    else:
        layer, scale = prefix.layers[module.layer_idx], query.shape[-1] ** -0.5 if scaling is None else scaling
        bias = attention_mask
        if bias is not None and bias.dtype == torch.bool:
            bias = bias_of(bias, query.dtype)
        out_BHQE = attended(query, key, value, (layer.keys, layer.values), bias, causal=causal, scale=scale)
    return out_BHQE.transpose(1, 2).contiguous(), None


@cache
def tell() -> None:
    """Tell transformers of it. That takes seconds of imports, which a process without a model does without."""
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    tell_of(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


@cache
def tell_of(name: str, function: Callable[..., Any]) -> None:
    """Tell transformers of a function that attends, by a name."""
    from transformers import AttentionInterface

    AttentionInterface.register(name, function)
