"""Losses: pure tensor functions with frozen configs, one file a family.

Shapes: B problems of this worker, K soft tokens, D target width, T source positions, L source layers, S source width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from raybridge.lm import FrozenLM
from raybridge.world import World


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's share of a step, in tokens. The questions are rows for the source and rows for the target."""

    source_questions: Sequence[Sequence[int]]
    target_questions: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]
    repeats: Sequence[Sequence[int]]  # the question as an answer to the repeat cue, with its end token


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What a loss looks at: the target, the prompt around the question's place, and the soft tokens that fill it."""

    target: FrozenLM
    before: tuple[int, ...]
    after: tuple[int, ...]
    after_repeat: tuple[int, ...]
    batch: Batch
    soft_BKD: Tensor
    world: World


class Loss(Protocol):
    """What a loss's config offers."""

    name: ClassVar[str]

    @property
    def weight(self) -> float:
        """Factor in the total; the logged value is without it."""

    def starts(self, *, warmup: int) -> int:
        """The first step (from 0) at which the term is on."""

    def count(self, batch: Batch) -> int:
        """How many things this worker's value sums over."""

    def total(self, bridge: Bridge) -> Tensor:
        """The sum over this worker's share; divided by the count of all workers it is the term's value."""
