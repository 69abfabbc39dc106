"""Sequences of unlike length one behind another in a single row, without pads; attention stays within each sequence.

A batch of texts padded to its longest is half pads. Flash attention takes the bounds of the sequences instead (Dao 2023,
arXiv:2307.08691), and every other operation of a transformer sees N positions, real ones only.

Shapes: B sequences, T positions of the longest, N real positions of all, H query heads, G KV heads, E head size, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raybridge.models import packed_lent, packed_prefix
from raybridge.models.lent import lent_to
from raybridge.models.packed_prefix import Sizes
from raybridge.models.partial import flash
from raybridge.models.pieces import places, sent
from raybridge.models.shape import attends_only, head_sizes, window_of

NAME = "raybridge_packed"  # of the attention, among those that transformers knows


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the real positions of a padded batch (B, T), whose pads are behind its sequences, stand in a row (1, N)."""

    places_N: Tensor
    positions_1N: Tensor
    bounds: Tensor  # (B + 1) offsets of the sequences in the row
    longest: int
    shape: tuple[int, int]

    @staticmethod
    def of(lengths: Sequence[int], width: int, device: torch.device) -> Packing:
        """The packing of sequences so long in a batch of this width."""
        places_N = places(lengths, width, device)
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return Packing(
            places_N=places_N,
            positions_1N=places_N[None] % max(width, 1),
            bounds=sent(torch.from_numpy(bounds), device),
            longest=max(lengths, default=0),
            shape=(len(lengths), width),
        )

    def pack(self, padded_BT: Tensor) -> Tensor:
        """(B, T, ...) to (1, N, ...)."""
        return padded_BT.flatten(0, 1).index_select(0, self.places_N).unsqueeze(0)

    def unpack(self, row_1N: Tensor) -> Tensor:
        """(1, N, ...) to (B, T, ...), zero where the mask is."""
        B, T = self.shape
        padded = row_1N.new_zeros(B * T, *row_1N.shape[2:])
        return padded.index_copy(0, self.places_N, row_1N.squeeze(0)).unflatten(0, (B, T))

    @property
    def arguments(self) -> dict[str, Any]:
        """What a pass of a model is told, by the names that transformers has for it."""
        return {"attention_mask": None, "cu_seq_lens_q": self.bounds, "max_length_q": self.longest}


class UnpackableError(Exception):
    """A layer asks for attention that packed rows do not have."""


def can_pack(model: Any) -> bool:
    """Whether flash attention takes this model: half precision on a GPU, attention alone, heads of a size that it knows."""
    if (
        model.device.type != "cuda"
        or model.dtype not in (torch.bfloat16, torch.float16)
        or not model._supports_attention_backend
    ):
        return False
    return packable(model.config.get_text_config())


def packable(config: Any) -> bool:
    """Whether flash attention takes layers of this shape. Whether a model attends otherwise is seen when it is read."""
    sizes = head_sizes(config) if attends_only(config) else []
    return bool(sizes) and all(size % 8 == 0 and size <= 256 for size in sizes)


def within_window(model: Any, length: int) -> bool:
    """Whether no layer's window is shorter than a sequence: packed layers see everything before a position."""
    window = window_of(model.config)
    return window is None or length <= window


def attend(q_NHE: Tensor, k_NGE: Tensor, v_NGE: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
    """Causal attention (N, H, E) within each sequence; flash takes the keys and values of a group once."""
    return flash(q_NHE, k_NGE, v_NGE, (bounds, bounds), (longest, longest), causal=True, scale=scale)[0]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    lent: bool = False,
    beginnings: tuple[Tensor, Tensor, Sizes] | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """The attention of a transformers layer over packed rows: query (1, H, N, E), key and value (1, G, N, E).

    lent: whether every sequence attends to what the layer was lent as well (`models.lent`). beginnings: where sequences stand
    that others go on from, and these others (`models.shared_prefix`).
    """
    if softcap is not None or s_aux is not None or value.shape[-1] != query.shape[-1]:
        raise UnpackableError  # bounded scores (Gemma 2), sinks (gpt-oss), values of another size than keys (DeepSeek)
    assert attention_mask is None, "a packed row has no pads to mask"
    assert sliding_window is None or max_length_q <= sliding_window, "see `within_window`"
    q_NHE, k_NGE, v_NGE = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    if beginnings is not None:
        assert not lent, "what stands behind exemplars has no beginning of its own"
        told = (cu_seq_lens_q, *beginnings, max_length_q, scaling)
        return packed_prefix.attend(q_NHE, k_NGE, v_NGE, *told)[0].unsqueeze(0), None
    if lent:
        keys_PGE, values_PGE = (x.squeeze(0).transpose(0, 1) for x in lent_to(module))
        given = (q_NHE, k_NGE, v_NGE, keys_PGE, values_PGE, cu_seq_lens_q, max_length_q, scaling)
        return packed_lent.attend(*given)[0].unsqueeze(0), None
    return attend(q_NHE, k_NGE, v_NGE, cu_seq_lens_q, max_length_q, scaling).unsqueeze(0), None
