"""Soft tokens: what a translator writes for a batch of problems, with their controls and their bytes.

One kind of what may cross from source to target (`arms.arm.Crossing`).

Shapes: B problems, K soft tokens, D target width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raybridge.models.lm import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.translators.parts import at_rms
from raybridge.translators.wire import FORMATS, through_wire, wire_bytes


@dataclass(frozen=True, kw_only=True)
class SoftTokens:
    """K soft tokens a problem for one target. names: ids of the problems. written_BKD: None where nothing was written."""

    target: FrozenLM
    names: tuple[str, ...]
    size: int
    written_BKD: Tensor | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def values(self) -> Tensor:
        """What was written (B, K, D)."""
        assert self.written_BKD is not None, "no translator wrote these soft tokens"
        return self.written_BKD

    @property
    def _shape(self) -> tuple[int, int]:
        return self.size, self.target.width

    def zero(self) -> SoftTokens:
        """Zeros."""
        return replace(self, written_BKD=torch.zeros(len(self), *self._shape, device=self.target.device))

    def noise(self) -> SoftTokens:
        """Normal noise at the target's embedding RMS, seeded by each problem's id."""
        drawn_BKD = torch.stack([noise(name, self._shape) for name in self.names]).to(self.target.device)
        return replace(self, written_BKD=drawn_BKD * self.target.embedding_rms)

    def rows(self, order: Sequence[int]) -> SoftTokens:
        """For problem i what was written for problem order[i]."""
        return replace(self, written_BKD=self.values[list(order)])

    def mean_of_others(self) -> SoftTokens:
        """For each problem the mean of what was written for all others, each of the K at the target's embedding RMS."""
        own_BKD = self.values
        return replace(self, written_BKD=at_rms(own_BKD.sum(0, keepdim=True) - own_BKD, self.target.embedding_rms))

    def through_wire(self, form: str) -> SoftTokens:
        """As they arrive at the other end in a format of `wire.FORMATS`."""
        return replace(self, written_BKD=through_wire(self.values, FORMATS[form]))

    def piece(self) -> Piece:
        """Their piece of the target's prompt."""
        return self.target.soft_piece(self.values)

    def bytes(self, form: str) -> int:
        """Bytes of one problem's message in a format, scales and header counted."""
        return wire_bytes(self._shape, FORMATS[form])


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, seeded by a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
