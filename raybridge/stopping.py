"""Stop this trial? Pure decisions over the dev evaluations so far.

Degradation is a fall from the best of several looks at the same problems. Against the maximum a later evaluation loses by
noise alone: a test of the two that forgets how many there were stops half of all trials whose accuracy never changes (12
evaluations of 500 problems). The level is therefore shared by all pairs of the evaluations that a trial will have. A half of
dev held out for the test would have to fall 1.4 times as far before it showed; two falls in a row stop more trials without
cause the longer they train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from raybridge.config import typed
from raybridge.statistics import fall, mcnemar_exact, verdict

EVALUATIONS = 12  # of a trial whose plan is not told: those of the full scale


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a trial ends before its last step.

    patience: evaluations without a new best before it stops; None never stops for it.
    degradation: how far (in accuracy, 0..1) the dev score may fall below its best; None never stops for it.
    significance: the fall must also reach this level on the same problems, corrected for the looks (`statistics.fall`): a
    trial whose accuracy never changes is stopped for it with no more than this probability.
    """

    VERSION: ClassVar[int] = 2

    patience: int | None = None
    degradation: float | None = 0.05
    significance: float = 0.05

    def __post_init__(self) -> None:
        typed(self)
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"stopping patience must be at least 1 evaluation or None, not {self.patience}")
        if self.degradation is not None and not 0 <= self.degradation <= 1:
            raise ValueError(f"stopping degradation is a difference of accuracies in 0..1 or None, not {self.degradation}")
        if not 0 < self.significance < 1:
            raise ValueError(f"stopping significance must lie between 0 and 1, not {self.significance}")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One dev evaluation: the step, and for each dev problem (same order at every step) whether it was correct.

    shuffled: whether it was correct with another problem's soft tokens. nll: nats a token of the worked answers.
    """

    step: int
    correct: tuple[bool, ...]
    shuffled: tuple[bool, ...]
    nll: float

    @property
    def accuracy(self) -> float:
        """Share of the problems that were correct."""
        return sum(self.correct) / len(self.correct)

    @property
    def control(self) -> float:
        """The same with another problem's soft tokens."""
        return sum(self.shuffled) / len(self.shuffled)

    @cached_property
    def beats_shuffled(self) -> bool:
        """Whether it is better than its control by the exact paired test: an accuracy that is not says nothing."""
        return verdict(self.accuracy - self.control, mcnemar_exact(self.shuffled, self.correct)) == "better"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to stop, and why, in words that go into result.json."""

    stop: bool
    kind: Literal["go on", "patience", "degradation"]
    reason: str


def peak(scores: Sequence[Score]) -> Score:
    """The evaluation with the highest accuracy; of equals the one with the lowest NLL, of these the earliest."""
    assert scores, "peak of no evaluations"
    return max(scores, key=lambda score: (score.accuracy, -score.nll, -score.step))


def best(scores: Sequence[Score]) -> Score:
    """The evaluation whose checkpoint is kept and tested: the peak of those that beat their control.

    Where none does, the lowest NLL: a small target may answer next to nothing correctly, and which step has one problem
    more is chance. With a further evaluation the best stays what it is, or is the new one.
    """
    telling = [score for score in scores if score.beats_shuffled]
    return peak(telling) if telling else min(scores, key=lambda score: (score.nll, score.step))


def decide(stopping: Stopping, scores: Sequence[Score], *, planned: int = EVALUATIONS) -> Decision:
    """Decide from all dev evaluations so far, in the order of their steps.

    planned: how many the trial will have if nothing stops it. Among more than these the level is shared as they come.
    """
    if len(scores) < 2:
        return Decision(stop=False, kind="go on", reason="fewer than two evaluations")
    top, chosen, last = peak(scores), best(scores), scores[-1]
    assert len(top.correct) == len(last.correct), "dev evaluations on different problems"
    lost, looks = top.accuracy - last.accuracy, max(planned, len(scores))
    if stopping.degradation is not None and lost > stopping.degradation:
        p = fall(top.correct, last.correct, looks=looks)
        if p <= stopping.significance:
            return Decision(
                stop=True,
                kind="degradation",
                reason=f"dev accuracy {last.accuracy:.3f} at step {last.step} is {lost:.3f} below its best at step "
                f"{top.step} (limit {stopping.degradation:.3f}, exact McNemar p = {p:.2g}, corrected for {looks} looks)",
            )
    since = sum(score.step > chosen.step for score in scores)
    if stopping.patience is not None and since >= stopping.patience:
        return Decision(
            stop=True,
            kind="patience",
            reason=f"no new best in {since} evaluations since step {chosen.step} (patience {stopping.patience})",
        )
    return Decision(stop=False, kind="go on", reason=f"best {chosen.accuracy:.3f} at step {chosen.step}")
