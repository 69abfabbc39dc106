"""Where the workers of a trial begin: at its last checkpoint, or with what is fitted in closed form, and all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.results import TrialRun
from raybridge.stopping import Decision
from raybridge.training import checkpoint
from raybridge.training.fitting import fit
from raybridge.training.step import Trainer
from raybridge.translators.weights import digest_of


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Where a worker begins: after which step, whether the trial has ended there, and a digest of its weights."""

    step: int
    ended: Decision | None
    seconds: float
    digest: str


def begin(trainer: Trainer, run: TrialRun) -> Begun:
    """Put the last checkpoint into the trainer; without one, fit what starts in closed form."""
    steps = run.checkpoints()
    step = steps[-1] if steps else 0
    state = checkpoint.restore(run.checkpoint_path(step), trainer.module, trainer.optimizer) if step else {}
    if not step:
        fit(trainer.module, trainer.batches)
    ended = Decision(**state["ended"]) if state.get("ended") else None
    return Begun(step=step, ended=ended, seconds=state.get("seconds", 0.0), digest=digest_of(trainer.module))


def begun_alike(workers: Sequence[Begun]) -> Begun:
    """Where all workers begin, in rank order; they must begin alike, or each would train a translator of its own."""
    first, *others = workers
    for rank, other in enumerate(others, start=1):
        if other.step != first.step:
            raise ValueError(
                f"worker {rank} finds the checkpoint of step {other.step} and worker 0 that of step {first.step}: "
                "the results must be in a folder that the machines of all workers share"
            )
        if other != first:
            raise ValueError(f"worker {rank} begins at step {first.step} with other weights than worker 0")
    return first
