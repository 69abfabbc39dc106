"""Further texts that a translator learns from: the source reads one, and the target repeats it from the soft tokens.

A mixture says which kinds stand in a batch beside the problems, and how many of each. A kind is a frozen config with a `share`
of the batch that makes its texts from a benchmark's train split. What stands in the dev or test split of a benchmark that is
evaluated is left out, found by what it says.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import ClassVar, Protocol

from raybridge.config import check_seed, typed
from raybridge.data.origin import data_folder
from raybridge.data.problems import Evaluator, NoSplitError, Problem

SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
DIGITS = re.compile(r"[1-9]\d*")
LENGTHS = (30, 400)  # characters of a sentence that says something by itself


class Texts(Protocol):
    """A kind of further texts."""

    VERSION: ClassVar[int]

    @property
    def share(self) -> float:
        """Of a batch."""

    def texts(self, own: Evaluator) -> Iterable[str]:
        """All of them, in an order that is always the same. own: the benchmark of the trial."""


@dataclass(frozen=True, kw_only=True)
class WorkedAnswers:
    """The worked answers of the trial's own train split."""

    VERSION: ClassVar[int] = 1

    share: float

    def texts(self, own: Evaluator) -> Iterator[str]:
        """One a problem."""
        return (problem.rationale for problem in own.problems("train"))


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The questions of the train split of a benchmark, with their contexts; of the trial's own where none is named."""

    VERSION: ClassVar[int] = 1

    share: float
    evaluator: Evaluator | None = None

    def __post_init__(self) -> None:
        typed(self)

    def texts(self, own: Evaluator) -> Iterator[str]:
        """One a problem."""
        return (problem.question for problem in (self.evaluator or own).problems("train"))


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Sentences of the questions and contexts of a benchmark's train split. most: so many, drawn by what they say."""

    VERSION: ClassVar[int] = 1

    share: float
    evaluator: Evaluator
    most: int = 20_000

    def __post_init__(self) -> None:
        typed(self)
        if self.most < 1:
            raise ValueError(f"sentences: most must be at least 1, not {self.most}")

    def texts(self, own: Evaluator) -> list[str]:
        """Each once."""
        found = {sentence: None for one in self.evaluator.problems("train") for sentence in sentences(one.question)}
        return sorted(found, key=lambda sentence: sha256(sentence.encode()).digest())[: self.most]


@dataclass(frozen=True, kw_only=True)
class OtherNumbers:
    """Questions that were never there: sentences of unlike questions of the own train split, with other numbers.

    count: how many are made, by seed.
    """

    VERSION: ClassVar[int] = 1

    share: float
    count: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        typed(self)
        check_seed("other numbers: seed", self.seed)
        if self.count < 1:
            raise ValueError(f"other numbers: count must be at least 1, not {self.count}")

    def texts(self, own: Evaluator) -> Iterator[str]:
        """Two to four sentences each; a number is replaced by one of as many digits."""
        parts = [SENTENCE.split(problem.question.strip()) for problem in own.problems("train")]
        for number in range(self.count):
            draw = random.Random(f"{self.seed}/{number}")
            mixed = " ".join(draw.choice(draw.choice(parts)) for _ in range(draw.randint(2, 4)))
            yield DIGITS.sub(lambda found, draw=draw: as_long(found[0], draw), mixed)  # type: ignore[misc]


def as_long(number: str, draw: random.Random) -> str:
    """A number of as many digits."""
    return str(draw.randrange(10 ** (len(number) - 1), 10 ** len(number)))


def sentences(text: str) -> list[str]:
    """The sentences of a text that are neither too short to say something nor too long."""
    least, most = LENGTHS
    return [part for part in SENTENCE.split(text.strip()) if least <= len(part) <= most]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The texts of one kind. left_out: how many more there were, which are in a dev or test split."""

    name: str
    texts: tuple[str, ...]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Which further texts stand in a batch. held_out: benchmarks that a trial is evaluated on beside its own."""

    VERSION: ClassVar[int] = 1

    parts: tuple[Texts, ...]
    held_out: tuple[Evaluator, ...] = ()

    def __post_init__(self) -> None:
        typed(self)
        if not self.parts or any(not 0 < part.share < 1 for part in self.parts) or sum(part.share for part in self.parts) >= 1:
            shares = ", ".join(f"{part.share:g}" for part in self.parts) or "none"
            raise ValueError(f"mixture: each share of a batch must lie above 0, and all together below 1, not {shares}")

    def counts(self, batch: int) -> tuple[int, ...]:
        """How many texts of each kind stand in every batch: its share, rounded so that their sum is the sum's."""
        exact = [part.share * batch for part in self.parts]
        counts = [int(one + 1e-9) for one in exact]
        left = round(sum(exact)) - sum(counts)
        for number in sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))[:left]:
            counts[number] += 1
        for part, count in zip(self.parts, counts, strict=True):
            if count < 1:
                raise ValueError(f"mixture: a share of {part.share:g} of a batch of {batch} is no text; raise either")
        if sum(counts) >= batch:
            raise ValueError(f"mixture: its texts fill a batch of {batch}, and no problem is left")
        return tuple(counts)

    def pools(self, own: Evaluator) -> tuple[Pool, ...]:
        """The texts of each kind, without those of a dev or test split of its own benchmark and of those held out."""
        return _pools(self, own, str(data_folder()))

    def texts_in(self, own: Evaluator, problems: Sequence[Problem]) -> int:
        """How many of these problems stand in it, by their question, a sentence of it, or their worked answer."""
        learned = {plain(text) for pool in self.pools(own) for text in pool.texts}
        return sum(not learned.isdisjoint(said_by(problem)) for problem in problems)


@cache
def _pools(mixture: Mixture, own: Evaluator, folder: str) -> tuple[Pool, ...]:
    """See `Mixture.pools`. folder: where data are."""
    held_out = frozenset(text for one in dict.fromkeys((own, *mixture.held_out)) for text in said_in(one, folder))
    pools = []
    for part in mixture.parts:
        texts = [text for text in part.texts(own) if text.strip()]
        kept = tuple(text for text in texts if plain(text) not in held_out)
        name = type(part).__name__
        if not kept:
            raise ValueError(f"mixture: {name} has no text that is in no dev or test split")
        pools.append(Pool(name=name, texts=kept, left_out=len(texts) - len(kept)))
    return tuple(pools)


@cache
def said_in(evaluator: Evaluator, folder: str) -> frozenset[str]:
    """What the problems of a benchmark's dev and test split say, as it is compared. folder: where data are."""
    found: set[str] = set()
    for split in ("dev", "test"):
        try:
            problems = evaluator.problems(split)
        except NoSplitError:
            continue
        found.update(text for problem in problems for text in said_by(problem))
    return frozenset(found)


def said_by(problem: Problem) -> set[str]:
    """A problem's question, its sentences and its worked answer, as they are compared."""
    return {plain(text) for text in (problem.question, problem.rationale, *sentences(problem.question))}


def plain(text: str) -> str:
    """A text as it is compared: whatever its spaces, line breaks and capitals are."""
    return " ".join(text.casefold().split())
