"""Controls: soft tokens that know less than the question's own. They answer the same problems and should fail.

`shuffled` takes those of another problem of like length, drawn by the trial's seed, `mean` the mean of the other problems of
the block, `random` noise at the target's embedding RMS, `zero` none of it, and `no_context` nothing at all. Beside the question
as text `shuffled_with_text` shows what a learned format does without any transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raybridge.arms.arm import GREY, VERMILLION, Arm, C, Texts

NEIGHBOURS = 8  # problems of like length among which soft tokens are shuffled


@dataclass(frozen=True, kw_only=True)
class Control(Arm):
    """An arm that should fail. take: what it makes of the question's own soft tokens and the seed."""

    control: bool = True
    against: str | None = None
    take: Callable[[Any, int], Any]

    def soft(self, written: C, *, seed: int) -> C | None:
        """What should not help."""
        return self.take(written, seed)


@dataclass(frozen=True, kw_only=True)
class BesideQuestion(Control):
    """A control with the question as text: what it gains is no transfer."""

    shows_question: bool = True

    def texts(self, given: Texts) -> Sequence[str]:
        """The questions."""
        return given.questions


def partners(count: int, seed: int) -> list[int]:
    """For each of a block's problems, in their order, the one whose soft tokens it is shuffled with: a derangement.

    Blocks are sorted by length. Within windows of neighbours, a random cyclic permutation (Sattolo 1986): no problem keeps
    its own soft tokens.
    """
    assert count > 1, "the shuffled control needs another problem"
    sizes = [min(NEIGHBOURS, count - start) for start in range(0, count, NEIGHBOURS)]
    if sizes[-1] == 1:
        sizes[-2:] = [NEIGHBOURS - 1, 2]
    draws = np.random.RandomState(seed & 0xFFFFFFFF)  # the stream of torch's generator, by which earlier rows were drawn
    order: list[int] = []
    for size in sizes:
        window = list(range(len(order), len(order) + size))
        for last in range(size - 1, 0, -1):
            other = int(draws.randint(2**32, dtype=np.uint32)) % last
            window[last], window[other] = window[other], window[last]
        order += window
    return order


def another_problems(written: C, seed: int) -> C:
    """What was written for a neighbour of like length."""
    return written.rows(partners(len(written), seed))


def mean_of_others(written: C, seed: int) -> C:
    """The mean of what was written for all others, at the scale of what was written."""
    return written.mean_of_others()


def noise(written: C, seed: int) -> C:
    """Noise at the target's embedding RMS."""
    return written.noise()


def zero(written: C, seed: int) -> C:
    """Nothing in as many places."""
    return written.zero()


def nothing(written: C, seed: int) -> None:
    """No place at all."""


SHUFFLED = Control(
    name="shuffled",
    trained=True,
    of_block=True,
    in_sweeps=("dev", "test"),
    take=another_problems,
    look={"color": VERMILLION, "linestyle": "--", "marker": "X"},
    order=910,
)
SHUFFLED_WITH_TEXT = BesideQuestion(
    name="shuffled_with_text",
    trained=True,
    of_block=True,
    in_sweeps=("test",),
    take=another_problems,
    look={"color": VERMILLION, "linestyle": ":", "marker": "X"},
    order=911,
)
MEAN = Control(
    name="mean",
    version=2,  # 2: at the RMS that soft tokens have
    trained=True,
    of_block=True,
    take=mean_of_others,
    look={"color": GREY, "linestyle": "-.", "marker": ">"},
    order=920,
)
RANDOM = Control(
    name="random",
    of_k=True,
    take=noise,
    look={"color": GREY, "linestyle": ":", "marker": "<"},
    order=930,
)
ZERO = Control(
    name="zero",
    of_k=True,
    in_sweeps=("dev", "test"),
    take=zero,
    look={"color": GREY, "linestyle": "--", "marker": "h"},
    order=940,
)
NO_CONTEXT = Control(
    name="no_context",
    reads_text=True,
    in_sweeps=("dev", "test"),
    take=nothing,
    look={"color": GREY, "linestyle": ":", "marker": "d"},
    order=950,
)
