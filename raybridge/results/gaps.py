"""What a complete trial has lost of what it wrote, and what of that its kept checkpoints and rows give back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.data import Split
from raybridge.results.trial_run import TrialRun

Place = tuple[str, Split, int]  # evaluator, split, step


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """What is gone.

    samples: whose checkpoint is there. evals: rows of evals.parquet whose samples are there. beyond: samples whose checkpoint
    is gone as well. conditioning: of the best checkpoint.
    """

    samples: tuple[Place, ...] = ()
    evals: tuple[tuple[str, str, int], ...] = ()
    conditioning: bool = False
    beyond: tuple[Place, ...] = ()

    @property
    def mendable(self) -> bool:
        """Whether anything can be computed again."""
        return bool(self.samples or self.evals or self.conditioning)

    @property
    def told(self) -> str:
        """What will be computed again, in words."""
        samples = [f"its {split} samples of step {step}" for _, split, step in self.samples]
        rows = ["rows of its evals"] if self.evals else []
        return _listed([*samples, *rows, *(["its conditioning"] if self.conditioning else [])])

    @property
    def told_beyond(self) -> str:
        """What will not, in words."""
        return _listed([f"its {split} samples of step {step}" for _, split, step in self.beyond])

    @property
    def planned(self) -> str:
        """What becomes of the trial when its sweep is launched; empty where nothing is gone."""
        beyond = f"without {self.told_beyond} (the checkpoint is gone as well)" if self.beyond else ""
        if self.mendable:
            return f"complete, but without {self.told}: computed again" + (f"; {beyond}" if beyond else "")
        return f"complete, reused {beyond}" if beyond else ""


def gaps_of(run: TrialRun, *, evaluator: str, points: Sequence[int]) -> Gaps:
    """What a complete trial has lost. points: the steps after which it is evaluated on dev, if it gets so far."""
    result = run.result()
    if result is None or "best_step" not in result:
        return Gaps()
    best = int(result["best_step"])
    own: list[Place] = [*((evaluator, "dev", point) for point in points if point <= result["steps"]), (evaluator, "test", best)]
    sampled, checkpoints = run.sampled(), run.checkpoints()
    gone = [place for place in own if place not in sampled]
    evals = run.evals()
    bridged = set(evals.loc[evals["arm"] == "bridged", ["evaluator", "split", "step"]].itertuples(index=False, name=None))
    any_arm = set(evals[["evaluator", "split", "step"]].itertuples(index=False, name=None))
    return Gaps(
        samples=tuple(place for place in gone if place[2] in checkpoints),
        beyond=tuple(place for place in gone if place[2] not in checkpoints),
        evals=tuple(place for place in sampled if place not in (bridged if place in own else any_arm)),
        conditioning=best in checkpoints and not run.has_conditioning(evaluator),
    )


def _listed(parts: Sequence[str]) -> str:
    if len(parts) > 3:
        parts = [*parts[:2], f"{len(parts) - 2} more"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
