"""Problems of benchmarks: what one is, what an evaluator offers, and how a split is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem of a benchmark.

    id: unique and stable in its benchmark, such as "gsm8k/test/17".
    question: all that the source reads and the soft tokens must carry (for reading comprehension, with its context).
    gold: the short answer that grades it. rationale: the full worked answer that training teaches.
    also: other answers that count as right, where a benchmark has several.
    """

    id: str
    question: str
    gold: str
    rationale: str
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "question", "gold", "rationale"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise ValueError(f"problem {self.id!r}: its {name} must be text, not {type(value).__name__}")
            if not value.strip():
                raise ValueError(f"problem {self.id!r} has no {name}; a problem without one cannot be trained on or graded")


class Evaluator(Protocol):
    """What a file of evaluators/ offers: a frozen dataclass whose fields are its options.

    A prompt is `instruction`, then `before` + question + `after`, and the model's answer follows; exemplars are written
    in the same form, answered by their rationales. A completion ends where one of `stop` begins.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    VERSION: ClassVar[int]
    name: ClassVar[str]
    readings: ClassVar[tuple[str, ...]]  # the first one decides stopping and selection
    instruction: ClassVar[str]
    before: ClassVar[str]
    after: ClassVar[str]
    stop: ClassVar[tuple[str, ...]]
    max_new_tokens: ClassVar[int]

    def __hash__(self) -> int:
        """Frozen, so hashable."""

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split, in a fixed order. Dev comes out of train where the benchmark has no dev."""

    def exemplars(self) -> list[Problem]:
        """The few-shot exemplars of text prompts; empty for zero-shot."""

    def read(self, completion: str) -> dict[str, str | None]:
        """The answer that each reading finds in a completion; None where it finds none (an invalid completion)."""

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """The score of each reading."""


class NoSplitError(ValueError):
    """A benchmark does not have the split that it is asked for."""


def check_split(split: str, valid: Sequence[str], benchmark: str, why: str = "") -> None:
    """Refuse a split that a benchmark does not have."""
    if split not in valid:
        raise NoSplitError(f"{benchmark} has no split {split!r}; valid: {', '.join(valid)}" + (f" ({why})" if why else ""))


def check_unique(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems as a list if no id occurs twice."""
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise ValueError(f"two problems have the id {problem.id!r}")
        seen.add(problem.id)
    return list(problems)


def rank(problem: str, *, seed: int) -> bytes:
    """Where a problem stands among all of its split by its id: a seeded hash, the same wherever and whenever asked."""
    return hashlib.sha256(f"{seed}/{problem}".encode()).digest()


def draw(problems: Iterable[Problem], count: int, *, seed: int) -> list[Problem]:
    """`count` problems in the order of their ranks: the same ones wherever and whenever drawn."""
    ranked = sorted(problems, key=lambda problem: rank(problem.id, seed=seed))
    if count > len(ranked):
        raise ValueError(f"asked for {count} problems where there are {len(ranked)}")
    return ranked[:count]
