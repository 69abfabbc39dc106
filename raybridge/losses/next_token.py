"""Next-token losses: the target writes a text that follows from the soft tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from raybridge.losses import Batch, Bridge

REPEAT_CUE = "\nRepeat:"  # what asks the target to write its question again


def continuation_nll(bridge: Bridge, after: Sequence[int], rows: Sequence[Sequence[int]]) -> Tensor:
    """Sum of the target's NLL of `rows` after the soft tokens and the cue `after`."""
    B = len(rows)
    target = bridge.target
    pieces = [
        target.text_piece([bridge.before] * B),
        target.soft_piece(bridge.soft_BKD),
        target.text_piece([after] * B),
    ]
    return target.answer_nll(pieces, rows).sum()


def _cut(rows: Sequence[Sequence[int]], length: int) -> list[Sequence[int]]:
    return [row[:length] for row in rows]


def _check(name: str, weight: float, max_tokens: int) -> None:
    if weight <= 0 or max_tokens < 1:
        raise ValueError(f"loss {name}: weight must be above 0 and max_tokens at least 1, not {weight} and {max_tokens}")


@dataclass(frozen=True, kw_only=True)
class AnswerNLL:
    """NLL a token of the worked answer given the soft tokens; only the first `max_tokens` of each answer count."""

    name: ClassVar[str] = "answer"
    weight: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        _check(self.name, self.weight, self.max_tokens)

    def starts(self, *, warmup: int) -> int:
        """From the first step."""
        return 0

    def count(self, batch: Batch) -> int:
        """Answer tokens."""
        return sum(len(row) for row in _cut(batch.answers, self.max_tokens))

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        return continuation_nll(bridge, bridge.after, _cut(bridge.batch.answers, self.max_tokens))


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """NLL a token of the question itself: the target repeats it from the soft tokens alone."""

    name: ClassVar[str] = "reconstruction"
    weight: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        _check(self.name, self.weight, self.max_tokens)

    def starts(self, *, warmup: int) -> int:
        """From the first step."""
        return 0

    def count(self, batch: Batch) -> int:
        """Question tokens."""
        return sum(len(row) for row in _cut(batch.repeats, self.max_tokens))

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        return continuation_nll(bridge, bridge.after_repeat, _cut(bridge.batch.repeats, self.max_tokens))
