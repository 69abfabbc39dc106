"""Batches of sequences as pieces: embeddings and which of them are real, one piece after another.

Shapes: B batch, T positions of a piece, D width.

Each piece is padded to its own longest row, on either side. Where pieces are joined the pads go behind each row's real tokens:
a pad between them would be a step for a sliding window, for ALiBi and for a recurrence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a batch of sequences: embeddings (B, T, D) and which of them are real (B, T).

    injected: by number of a hidden state, what is added to it (B, T, D), in units of its own RMS at each position. counts: how
    many real tokens each sequence has, where the host knows it without a question to the device, which is at work.
    """

    embeds_BTD: Tensor
    mask_BT: Tensor
    injected: Mapping[int, Tensor] = field(default_factory=dict)
    counts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.counts is not None and self.mask_BT.device.type == "cpu":
            assert self.mask_BT.sum(dim=1).tolist() == list(self.counts), f"counts {self.counts} are not what the mask says"

    @property
    def lengths(self) -> list[int]:
        """How many real tokens each sequence has."""
        return self.mask_BT.sum(dim=1).tolist() if self.counts is None else list(self.counts)

    def wider(self, length: int) -> Piece:
        """The piece with pads behind it up to a length."""
        gap = length - self.mask_BT.shape[1]
        return Piece(
            embeds_BTD=F.pad(self.embeds_BTD, (0, 0, 0, gap)),
            mask_BT=F.pad(self.mask_BT, (0, gap)),
            injected={layer: F.pad(addend, (0, 0, 0, gap)) for layer, addend in self.injected.items()},
            counts=self.counts,
        )

    def rows(self, rows: Sequence[int]) -> Piece:
        """Some of the sequences."""
        place_C = sent(torch.tensor(rows, dtype=torch.long), self.mask_BT.device)
        return Piece(
            embeds_BTD=self.embeds_BTD.index_select(0, place_C),
            mask_BT=self.mask_BT.index_select(0, place_C),
            injected={layer: addend.index_select(0, place_C) for layer, addend in self.injected.items()},
            counts=None if self.counts is None else tuple(self.counts[row] for row in rows),
        )

    def times(self, number: int) -> Piece:
        """All sequences, so many times."""
        injected = {layer: torch.cat([addend] * number) for layer, addend in self.injected.items()}
        return Piece(
            embeds_BTD=torch.cat([self.embeds_BTD] * number),
            mask_BT=torch.cat([self.mask_BT] * number),
            injected=injected,
            counts=None if self.counts is None else self.counts * number,
        )

    def shorter(self, length: int) -> Piece:
        """The first positions."""
        injected = {layer: addend[:, :length] for layer, addend in self.injected.items()}
        return Piece(embeds_BTD=self.embeds_BTD[:, :length], mask_BT=self.mask_BT[:, :length], injected=injected)


def join(pieces: Sequence[Piece]) -> Piece:
    """The pieces one after another: each row's real tokens from the first column on, without pads between them."""
    counts = [piece.counts for piece in pieces if piece.counts is not None]
    return compact(
        Piece(
            embeds_BTD=torch.cat([piece.embeds_BTD for piece in pieces], dim=1),
            mask_BT=torch.cat([piece.mask_BT for piece in pieces], dim=1),
            injected=joined_injections(pieces, dim=1),
            counts=tuple(map(sum, zip(*counts, strict=True))) if len(counts) == len(pieces) else None,
        )
    )


def compact(piece: Piece) -> Piece:
    """A piece whose rows begin in the first column and whose longest row has no pad."""
    longest = max(piece.lengths, default=0)
    place_BT = piece.mask_BT.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    return Piece(
        embeds_BTD=taken(piece.embeds_BTD, place_BT),
        mask_BT=piece.mask_BT.gather(1, place_BT),
        injected={layer: taken(addend, place_BT) for layer, addend in piece.injected.items()},
        counts=piece.counts,
    )


def taken(values_BTD: Tensor, place_BA: Tensor) -> Tensor:
    """For each row the values (B, A, D) at its places."""
    B, T = values_BTD.shape[:2]
    start_B1 = T * torch.arange(B, device=place_BA.device).unsqueeze(1)
    return values_BTD.flatten(0, 1).index_select(0, (start_B1 + place_BA).flatten()).unflatten(0, (B, -1))


def joined_injections(pieces: Sequence[Piece], *, dim: int) -> dict[int, Tensor]:
    """What is injected into pieces that are joined along `dim`; zero where a piece has nothing for a layer."""
    layers = sorted({layer for piece in pieces for layer in piece.injected})
    return {
        layer: torch.cat([piece.injected.get(layer, torch.zeros_like(piece.embeds_BTD)) for piece in pieces], dim=dim)
        for layer in layers
    }


def sent(values: Tensor, device: torch.device) -> Tensor:
    """What the host has on a device, which goes on with its work meanwhile."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def fetched(values: Tensor) -> Callable[[], Tensor]:
    """What a device is to compute, on its way to the host: the call waits for it, and not for what the device is told later."""
    if values.device.type != "cuda":
        return lambda: values
    here = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    here.copy_(values, non_blocking=True)
    there = torch.cuda.current_stream(values.device).record_event()

    def waited_for() -> Tensor:
        there.synchronize()
        return here

    return waited_for


def places(lengths: Sequence[int], width: int, device: torch.device) -> Tensor:
    """Where the real positions (N) of rows so long stand in their padded batch (B x width), one row's behind another's."""
    real_N = np.flatnonzero(np.arange(width) < np.array(lengths, dtype=np.int64)[:, None])
    return sent(torch.from_numpy(real_N), device)


def prefixes(lengths: Sequence[int], width: int, device: torch.device) -> Tensor:
    """The mask (B, width) of rows so long whose pads are behind them."""
    return torch.arange(width, device=device) < sent(torch.tensor(lengths, dtype=torch.long), device).unsqueeze(1)


def positions(mask_BT: Tensor) -> Tensor:
    """Position ids that count real tokens only; a pad repeats the position before it."""
    return (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)


def pad(
    rows: Sequence[Sequence[int]], *, pad_id: int, side: Literal["left", "right"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token rows as ids (B, T) and mask (B, T). The mask comes from the lengths: the pad id may be a real token."""
    length_B1 = np.array([len(row) for row in rows], dtype=np.int64)[:, None]
    column_T = np.arange(length_B1.max(initial=0))
    # In NumPy, which keeps Python's lock: each of torch's operations gives it up, and waits for who takes it meanwhile.
    mask_BT = column_T < length_B1 if side == "right" else column_T >= len(column_T) - length_B1
    ids_BT = np.full(mask_BT.shape, pad_id)
    ids_BT[mask_BT] = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
    return sent(torch.from_numpy(ids_BT), device), sent(torch.from_numpy(mask_BT), device)
