"""Next-token losses: the target writes a text that follows from the soft tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, Read, check_positive, check_shared
from raybridge.losses.beside_text import AnswerBesideText
from raybridge.losses.bridge import SHARED_TOKENS, Batch, Bridge, cut


def answer_nll(bridge: Bridge, max_tokens: int) -> Tensor:
    """NLL (B, A) of the first `max_tokens` of each answer given the soft tokens; from the shared pass where it reaches."""
    if max_tokens <= SHARED_TOKENS:
        return bridge.student.nll[:, :max_tokens]
    return bridge.read_answers(cut(bridge.batch.answers, max_tokens)).nll


def _check(name: str, weight: float, max_tokens: int) -> None:
    if weight <= 0 or max_tokens < 1:
        raise ValueError(f"loss {name}: weight must be above 0 and max_tokens at least 1, not {weight} and {max_tokens}")


@dataclass(frozen=True, kw_only=True)
class AnswerNLL(Loss):
    """NLL a token of the worked answer given the soft tokens; only the first `max_tokens` of each answer count."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "answer"
    reads: ClassVar[frozenset[Read]] = frozenset({"answers"})
    weight: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        typed(self)
        _check(self.name, self.weight, self.max_tokens)

    def count(self, batch: Batch) -> int:
        """Answer tokens."""
        return sum(len(row) for row in cut(batch.answers, self.max_tokens))

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        return answer_nll(bridge, self.max_tokens).sum()


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Loss):
    """NLL a token of the question itself: the target repeats it from the soft tokens alone."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "reconstruction"
    reads: ClassVar[frozenset[Read]] = frozenset({"repeats"})
    weight: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        typed(self)
        _check(self.name, self.weight, self.max_tokens)

    def count(self, batch: Batch) -> int:
        """Question tokens."""
        return sum(len(row) for row in cut(batch.repeats, self.max_tokens))

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        if self.max_tokens <= SHARED_TOKENS:
            return bridge.repeated.nll[:, : self.max_tokens].sum()
        return bridge.read_repeats(cut(bridge.batch.repeats, self.max_tokens)).nll.sum()


@dataclass(frozen=True, kw_only=True)
class FirstTokens(Loss):
    """Cross-entropy of the first `tokens` answer tokens, where a bridge fails first; the very first has its own weight."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "first_tokens"
    reads: ClassVar[frozenset[Read]] = frozenset({"answers"})
    weight: float = 0.5
    tokens: int = 8
    first_weight: float = 2.0

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight", "first_weight")
        check_shared(self, self.tokens)

    def count(self, batch: Batch) -> float:
        """The weights of the tokens, added up."""
        return sum(min(len(row), self.tokens) - 1 + self.first_weight for row in batch.answers if row)

    def total(self, bridge: Bridge) -> Tensor:
        """Weighted sum of NLL."""
        nll_BA = answer_nll(bridge, self.tokens)
        return nll_BA.sum() + (self.first_weight - 1) * nll_BA[:, :1].sum()


@dataclass(frozen=True, kw_only=True)
class Format(Loss):
    """NLL of the tokens of the answer's mark (`####`), each where it stands in the worked answer.

    A reward for completions that hold the mark would have no gradient; this is the probability of writing it in time.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "format"
    reads: ClassVar[frozenset[Read]] = frozenset({"answers"})
    weight: float = 0.1
    mark: str = "####"

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")
        if not self.mark or not self.mark.isascii() or any(character.isspace() for character in self.mark):
            raise ValueError(f"loss format: the mark must be ASCII without spaces, not {self.mark!r}")

    def count(self, batch: Batch) -> int:
        """Tokens of marks that the shared pass reaches."""
        return sum(len(positions) for positions in self.places(batch))

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        nll_BA = answer_nll(bridge, SHARED_TOKENS)
        return torch.stack([nll_BA[row, places].sum() for row, places in enumerate(self.places(bridge.batch))]).sum()

    def places(self, batch: Batch) -> list[list[int]]:
        """Positions, within the shared pass, of the tokens that hold each answer's last mark."""
        return [[i for i in mark_places(row, self.mark) if i < SHARED_TOKENS] if row else [] for row in batch.answer_pieces]


def mark_places(pieces: Sequence[str], mark: str) -> list[int]:
    """Positions of the tokens that hold the last `mark` of an answer, whose tokens are written as `pieces`."""
    start = "".join(pieces).rfind(mark)
    if start < 0:
        raise ValueError(f"loss format: the mark {mark!r} does not occur in the answer {' '.join(pieces)!r}")
    ends = list(accumulate(map(len, pieces)))
    return [i for i, end in enumerate(ends) if end > start and end - len(pieces[i]) < start + len(mark)]


@dataclass(frozen=True, kw_only=True)
class FadingText(Loss):
    """A curriculum: NLL of the answer given the soft tokens and a part of the question as text that fades to nothing.

    The text stands behind the soft tokens, as in the arm `bridged_with_text`. Over the first `steps` steps it loses tokens
    from its front, evenly, to the last one; then the term is the answer NLL itself and costs no pass of its own.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "fading_text"  # it reads the answers only after it has faded: no reason to read them together
    weight: float = 1.0
    steps: int

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight", "steps")

    def count(self, batch: Batch) -> int:
        """Answer tokens."""
        return sum(len(row) for row in cut(batch.answers, SHARED_TOKENS))

    def kept(self, rows: Sequence[Sequence[int]], step: int) -> list[Sequence[int]]:
        """What is left of each question's text at a step."""
        return [row[len(row) * min(step, self.steps) // self.steps :] for row in rows]

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        if bridge.step >= self.steps:
            return answer_nll(bridge, SHARED_TOKENS).sum()
        questions = [text.question for text in bridge.batch.target_texts]
        text = bridge.target.text_piece(self.kept(questions, bridge.step))
        pieces = bridge.behind_text(bridge.soft, text)
        return bridge.read(pieces, cut(bridge.batch.answers, SHARED_TOKENS)).nll.sum()


@dataclass(frozen=True, kw_only=True)
class ResidualAnswer(AnswerBesideText):
    """NLL of the answer given the question as text with the soft tokens added onto it, by `Residual` or `Injection`."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "residual_answer"

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        if not bridge.module.adds_onto_text:
            raise ValueError(
                f"loss residual_answer needs the translator Residual or Injection, not {type(bridge.module).__name__}"
            )
        return super().total(bridge)
