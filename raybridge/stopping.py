"""Stop this trial? Pure decisions over the dev evaluations so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raybridge.statistics import mcnemar_exact


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a trial ends before its last step.

    patience: evaluations without a new best before it stops; None never stops for it.
    degradation: how far (in accuracy, 0..1) the dev score may fall below its best; None never stops for it.
    significance: the fall must also reach this level in the exact paired test on the same problems.
    """

    patience: int | None = None
    degradation: float | None = 0.05
    significance: float = 0.05

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"stopping patience must be at least 1 evaluation or None, not {self.patience}")
        if self.degradation is not None and not 0 <= self.degradation <= 1:
            raise ValueError(f"stopping degradation is a difference of accuracies in 0..1 or None, not {self.degradation}")
        if not 0 < self.significance < 1:
            raise ValueError(f"stopping significance must lie between 0 and 1, not {self.significance}")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One dev evaluation: the step, for each dev problem (same order at every step) whether it was correct, and the NLL.

    nll: nats a token of the worked answers.
    """

    step: int
    correct: tuple[bool, ...]
    nll: float

    @property
    def accuracy(self) -> float:
        """Share of the problems that were correct."""
        return sum(self.correct) / len(self.correct)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to stop, and why, in words that go into result.json."""

    stop: bool
    kind: Literal["go on", "patience", "degradation"]
    reason: str


def best(scores: Sequence[Score]) -> Score:
    """The evaluation with the highest accuracy; of equals the one with the lowest NLL, of these the earliest.

    A small target may answer nothing correctly at any step, and its NLL tells all the same what was learned.
    """
    assert scores, "best of no evaluations"
    return max(scores, key=lambda score: (score.accuracy, -score.nll, -score.step))


def decide(stopping: Stopping, scores: Sequence[Score]) -> Decision:
    """Decide from all dev evaluations so far, in the order of their steps."""
    if len(scores) < 2:
        return Decision(stop=False, kind="go on", reason="fewer than two evaluations")
    peak, last = best(scores), scores[-1]
    assert len(peak.correct) == len(last.correct), "dev evaluations on different problems"
    fall = peak.accuracy - last.accuracy
    if stopping.degradation is not None and fall > stopping.degradation:
        p = mcnemar_exact(peak.correct, last.correct)
        if p <= stopping.significance:
            return Decision(
                stop=True,
                kind="degradation",
                reason=f"dev accuracy {last.accuracy:.3f} at step {last.step} is {fall:.3f} below its best at step "
                f"{peak.step} (limit {stopping.degradation:.3f}, exact McNemar p = {p:.2g})",
            )
    since = sum(score.step > peak.step for score in scores)
    if stopping.patience is not None and since >= stopping.patience:
        return Decision(
            stop=True,
            kind="patience",
            reason=f"no new best in {since} evaluations since step {peak.step} (patience {stopping.patience})",
        )
    return Decision(stop=False, kind="go on", reason=f"best {peak.accuracy:.3f} at step {peak.step}")
