"""Batches of sequences as pieces: embeddings and which of them are real, one piece after another.

Shapes: B batch, T positions of a piece, D width.

Each piece is padded to its own longest row. Masks and position ids follow from the pieces, so a pad inside a sequence takes
no position and receives no attention, whichever side it is on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a batch of sequences: embeddings (B, T, D) and which of them are real (B, T).

    injected: by number of a hidden state, what is added to it (B, T, D), in units of its own RMS at each position.
    """

    embeds_BTD: Tensor
    mask_BT: Tensor
    injected: Mapping[int, Tensor] = field(default_factory=dict)

    def rows(self, rows: Sequence[int]) -> Piece:
        """Some of the sequences."""
        injected = {layer: addend[rows] for layer, addend in self.injected.items()}
        return Piece(embeds_BTD=self.embeds_BTD[rows], mask_BT=self.mask_BT[rows], injected=injected)


def join(pieces: Sequence[Piece]) -> Piece:
    """The pieces one after another."""
    return Piece(
        embeds_BTD=torch.cat([piece.embeds_BTD for piece in pieces], dim=1),
        mask_BT=torch.cat([piece.mask_BT for piece in pieces], dim=1),
        injected=joined_injections(pieces, dim=1),
    )


def joined_injections(pieces: Sequence[Piece], *, dim: int) -> dict[int, Tensor]:
    """What is injected into pieces that are joined along `dim`; zero where a piece has nothing for a layer."""
    layers = sorted({layer for piece in pieces for layer in piece.injected})
    return {
        layer: torch.cat([piece.injected.get(layer, torch.zeros_like(piece.embeds_BTD)) for piece in pieces], dim=dim)
        for layer in layers
    }


def positions(mask_BT: Tensor) -> Tensor:
    """Position ids that count real tokens only; a pad repeats the position before it."""
    return (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)


def pad(
    rows: Sequence[Sequence[int]], *, pad_id: int, side: Literal["left", "right"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token rows as ids (B, T) and mask (B, T). The mask comes from the lengths: the pad id may be a real token."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long).unsqueeze(1)
    longest = int(lengths.max()) if len(rows) else 0
    column = torch.arange(longest)
    mask = column < lengths if side == "right" else column >= longest - lengths
    ids = torch.full((len(rows), longest), pad_id)
    ids[mask] = torch.from_numpy(np.fromiter(chain.from_iterable(rows), dtype=np.int64))
    return ids.to(device), mask.to(device)


def by_length(lengths: Sequence[int], *, fixed: int, start: int) -> list[list[int]]:
    """Row numbers in parts of like length, so that passing them apart and padding each to its longest costs least.

    fixed: positions that every row has besides its length. start: what one more pass costs, in positions.
    """
    order = np.argsort(lengths, kind="stable")
    padded = np.asarray(lengths)[order] + fixed
    count = len(order)
    least = np.zeros(count + 1)
    cut = np.zeros(count + 1, dtype=int)
    for end in range(1, count + 1):  # the cheapest way to pass the `end` shortest rows
        costs = least[:end] + (end - np.arange(end)) * padded[end - 1] + start
        cut[end] = costs.argmin()
        least[end] = costs[cut[end]]
    parts, end = [], count
    while end:
        parts.append(sorted(order[cut[end] : end].tolist()))
        end = cut[end]
    return parts[::-1]
