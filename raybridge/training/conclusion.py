"""How a trial ends: its training leaves a record, and who finds it has the test split read once and writes result.json.

Replicas read it, so no model is needed here: a trial's workers give their devices back before, and the next trial's begin
there meanwhile.
"""

from __future__ import annotations

import logging
from typing import Any

from raybridge.evaluation.evaluations import Evaluations
from raybridge.results import TrialRun
from raybridge.stopping import Decision, best, peak
from raybridge.training import checkpoint
from raybridge.training.conditioning import look_inside
from raybridge.training.judge import Judge
from raybridge.training.step import Trainer
from raybridge.translators.weights import read_weights
from raybridge.trial import Trial

log = logging.getLogger(__name__)


def leave(trainer: Trainer, run: TrialRun, judge: Judge, ended: Decision | None, *, step: int, seconds: float) -> None:
    """Keep the best and the last checkpoint, look inside the best, and write trained.json."""
    trial, world = trainer.trial, trainer.world
    run.keep_checkpoints(judge.kept(step))
    look_inside(trainer, run, read_weights(run.checkpoint_path(best(judge.scores).step)))
    run.write_trained(
        {
            "steps": step,
            "stopped": ended.kind if ended else "finished",
            "reason": ended.reason if ended else f"all {trial.steps} steps",
            "gpus": world.size * len(world.devices) if world.device.type == "cuda" else 0,
            "train_seconds": seconds,
            "eval_wait_seconds": judge.waited,
        }
    )
    log.info("step %d: trained, %s", step, ended.reason if ended else f"all {trial.steps} steps")


def conclude(trial: Trial, run: TrialRun, evaluations: Evaluations) -> None:
    """Have the best checkpoint of a trained trial read the test split, and write result.json."""
    trained = run.trained()
    assert trained is not None, f"{run.path} holds a trial that is not trained"
    judge = Judge(trial=trial, run=run, evaluations=evaluations)
    judge.resume(trained["steps"])
    judge.take_up_to(trained["steps"])
    top, chosen, final = peak(judge.scores), best(judge.scores), judge.scores[-1]
    evaluations.submit(step=chosen.step, split="test", weights=read_weights(run.checkpoint_path(chosen.step)))
    judge.take(chosen.step, "test")
    log.info("step %d read the test split", chosen.step)
    run.finish(
        {
            "name": trial.name,
            "fingerprint": trial.fingerprint,
            **trained,
            "arm": trial.translator.arm,
            "peak": top.accuracy,
            "peak_step": top.step,
            "best_step": chosen.step,
            "best": chosen.accuracy,
            "final": final.accuracy,
            "degradation": top.accuracy - final.accuracy,
            "shuffled_dev_at_peak": top.control,
            "test": _test(run),
        }
    )
    for kept in run.checkpoints():
        checkpoint.forget_moments(run.checkpoint_path(kept))


def _test(run: TrialRun) -> dict[Any, Any]:
    """What the test split came to, by arm and reading."""
    evals = run.evals()
    return {
        arm: {
            row.reading: {"accuracy": row.accuracy, "n": row.n, "low": row.low, "high": row.high, "nll": row.nll}
            for row in part.itertuples()
        }
        for arm, part in evals[evals["split"] == "test"].groupby("arm")
    }
