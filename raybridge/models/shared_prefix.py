"""Texts that go on from the same beginning, in one packed row that has each beginning once.

Shapes: B beginnings, T texts behind each, N positions of the row, A tokens of a text, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raybridge.models.packing import Packing
from raybridge.models.pieces import Piece, sent

Text = tuple[Sequence[int], Sequence[Sequence[int]]]  # a cue that stands before all rows, and the rows


def cues_apart(texts: Sequence[Text]) -> tuple[list[int], list[Text]]:
    """What all cues begin with, and the texts with what is left of their cues."""
    cues = [list(cue) for cue, _ in texts]
    same = next((i for i, tokens in enumerate(zip(*cues, strict=False)) if len(set(tokens)) > 1), min(map(len, cues)))
    return cues[0][:same], [(cue[same:], rows) for cue, (_, rows) in zip(cues, texts, strict=True)]


def packed(piece: Piece) -> Piece:
    """Its sequences one behind another as a single one."""
    row = Packing.of(piece.lengths, piece.mask_BT.shape[1], piece.mask_BT.device)
    embeds_1ND = row.pack(piece.embeds_BTD)
    injected = {layer: row.pack(addend) for layer, addend in piece.injected.items()}
    mask_1N = torch.ones(embeds_1ND.shape[:2], dtype=torch.bool, device=embeds_1ND.device)
    return Piece(embeds_BTD=embeds_1ND, mask_BT=mask_1N, injected=injected, counts=(embeds_1ND.shape[1],))


@dataclass(frozen=True, kw_only=True)
class Row:
    """Where beginnings stand in a row (1, N), and behind all of them their texts, those of one next to each other.

    fronts: (B) how long the beginnings are. lengths: (B, T) of the texts as the row has them, zero of one that is not there.
    """

    fronts: np.ndarray
    lengths: np.ndarray
    device: torch.device

    @staticmethod
    def of(fronts: Sequence[int], lengths: Sequence[Sequence[int]], device: torch.device) -> Row:
        """The row of so long beginnings and so long texts behind each."""
        return Row(fronts=np.array(fronts), lengths=np.array(lengths), device=device)

    @property
    def longest(self) -> int:
        """Positions of the longest beginning with a text behind it."""
        return int((self.fronts + self.lengths.max(1)).max())

    @property
    def _offsets(self) -> np.ndarray:
        """Where each beginning, each text and the row end, from 0 on."""
        return np.concatenate([[0], np.concatenate([self.fronts, self.lengths.ravel()]).cumsum()])

    @property
    def arguments(self) -> dict[str, Any]:
        """What a pass of a model is told."""
        B, T = self.lengths.shape
        offsets = self._offsets
        begun = np.concatenate([np.zeros(B, dtype=int), self.fronts.repeat(T)])  # positions before those of each part
        counts = np.diff(offsets)
        starts, forks = offsets[: B + 1], offsets[B::T] - offsets[B]
        sizes = int(offsets[B]), int(np.diff(forks).max()), int(self.fronts.max())
        return {
            "attention_mask": None,
            "position_ids": self._on_device(np.arange(offsets[-1]) + (begun - offsets[:-1]).repeat(counts))[None],
            "cu_seq_lens_q": self._on_device(np.unique(offsets)).int(),  # without parts of no positions
            "max_length_q": int(counts.max()),
            "beginnings": (self._on_device(starts).int(), self._on_device(forks).int(), sizes),
        }

    def before(self, text: int, cue: int, longest: int) -> Tensor:
        """Where those positions are (B, A) that predict the tokens of a text behind a cue, which the row has."""
        B, T = self.lengths.shape
        offsets = self._offsets
        place_A = np.arange(longest) + cue - 1
        place_BA = offsets[B + text : -1 : T, None] + place_A
        last_B1 = offsets[1 : B + 1, None] - 1  # of the beginning: without a cue it predicts the first token
        return self._on_device(np.where(place_A < 0, last_B1, place_BA).clip(max=offsets[-1] - 1))

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        return sent(torch.from_numpy(numbers), self.device)
