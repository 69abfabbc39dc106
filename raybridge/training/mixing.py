"""What stands in each batch of a trial: problems and further texts, each kind in an order of its own.

Seed and step alone decide it, so that a run that was killed sees what an undisturbed one sees.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch

from raybridge.data import Problem
from raybridge.trial import Trial

Asked = Problem | str  # a text is a question without an answer


class Mixing:
    """The batches of a trial whose problems are these."""

    def __init__(self, trial: Trial, problems: Sequence[Problem]) -> None:
        self.trial, self.problems, self.counts = trial, problems, trial.texts_a_batch
        self.pools = [pool.texts for pool in trial.mixture.pools(trial.evaluator)] if trial.mixture else []
        self._order = lru_cache(maxsize=2 * len(self.counts) or None)(self._order_of)

    def at(self, step: int) -> list[Asked]:
        """The global batch of a step (from 0), texts and problems spread evenly."""
        count = self.trial.problems_a_batch
        epoch, number = divmod(step, len(self.problems) // count)
        order = of_epoch(self.trial, len(self.problems), epoch)[number * count : (number + 1) * count].tolist()
        return spread([self.problems[i] for i in order], list(self._texts(step)))

    def _texts(self, step: int) -> Iterator[str]:
        for kind, (count, texts) in enumerate(zip(self.counts, self.pools, strict=True)):
            for place in range(step * count, (step + 1) * count):
                epoch, number = divmod(place, len(texts))
                yield texts[self._order(kind, epoch)[number]]

    def _order_of(self, kind: int, epoch: int) -> list[int]:
        seed = random.Random(f"{self.trial.seed}/{kind}/{epoch}").getrandbits(63)
        return torch.randperm(len(self.pools[kind]), generator=torch.Generator().manual_seed(seed)).tolist()


def spread(problems: Sequence[Problem], texts: Sequence[str]) -> list[Asked]:
    """Both in their order, as many texts to a problem from the first to the last as can be."""
    size, count = len(problems) + len(texts), len(texts)
    of_text = [(i + 1) * count // size > i * count // size for i in range(size)]
    some, others = iter(problems), iter(texts)
    return [next(others) if one else next(some) for one in of_text]


def dealt(asked: Sequence[Asked], workers: int) -> list[list[int]]:
    """Which places of a batch each worker has: as many problems and texts, about as much to read, for all wait for the last.

    The longest that are left go round the workers, back and forth.
    """
    assert len(asked) % workers == 0, f"a batch of {len(asked)} cannot be shared by {workers} workers"
    left = sorted(range(len(asked)), key=lambda place: (isinstance(asked[place], str), -letters(asked[place])))
    rounds = [left[start : start + workers] for start in range(0, len(left), workers)]
    return [sorted(one[~worker if odd % 2 else worker] for odd, one in enumerate(rounds)) for worker in range(workers)]


def letters(asked: Asked) -> int:
    """Of what a target is asked to write: a question again, and behind a problem's its answer."""
    return len(asked) if isinstance(asked, str) else len(asked.question) + len(asked.rationale)


def of_epoch(trial: Trial, count: int, epoch: int) -> torch.Tensor:
    """The order in which an epoch (from 0) goes through so many problems: the seed's, each problem once."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(trial.seed * 1_000_003 + epoch))


def seen(trial: Trial, count: int) -> list[int]:
    """Which of so many problems a trial's steps see, in their order."""
    if trial.steps >= count // trial.problems_a_batch:
        return list(range(count))
    return sorted(of_epoch(trial, count, 0)[: trial.steps * trial.problems_a_batch].tolist())
