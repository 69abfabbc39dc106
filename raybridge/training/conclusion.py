"""How a trial ends: its training leaves a record, and who finds it has evaluated what is left, and writes result.json.

Replicas evaluate, so no model is needed here: a trial's workers give their devices back before, and the next trial's begin
there meanwhile.
"""

from __future__ import annotations

import logging
from typing import Any

from raybridge.evaluation.evaluations import Evaluations
from raybridge.results import TrialRun
from raybridge.stopping import Decision, best, peak
from raybridge.training import checkpoint
from raybridge.training.judge import Judge
from raybridge.training.step import Trainer
from raybridge.translators.weights import read_weights
from raybridge.trial import Trial

log = logging.getLogger(__name__)


def leave(trainer: Trainer, run: TrialRun, judge: Judge, ended: Decision | None, *, step: int, seconds: float) -> None:
    """Write trained.json. The dev evaluation of the last step is left as well: nothing of training hangs on it."""
    trial, world = trainer.trial, trainer.world
    reason = ended.reason if ended else f"all {trial.steps} steps"
    run.write_trained(
        {
            "steps": step,
            "stopped": ended.kind if ended else "finished",
            "reason": reason,
            "gpus": world.size * len(world.devices) if world.device.type == "cuda" else 0,
            "train_seconds": seconds,
            "eval_wait_seconds": judge.waited,
        }
    )
    log.info("step %d: trained, %s", step, reason)


def conclude(trial: Trial, run: TrialRun, evaluations: Evaluations) -> None:
    """Read what dev evaluations are left of a trained trial, and the test split with the best checkpoint; write result.json."""
    trained = run.trained()
    assert trained is not None, f"{run.path} holds a trial that is not trained"
    step = trained["steps"]
    judge = Judge(trial=trial, run=run, evaluations=evaluations)
    judge.resume(step)
    judge.take_up_to(step)
    top, chosen, final = peak(judge.scores), best(judge.scores), judge.scores[-1]
    run.keep_checkpoints(judge.kept(step))
    weights = read_weights(run.checkpoint_path(chosen.step))
    evaluations.submit(step=chosen.step, split="test", weights=weights)
    run.write_conditioning(trial.evaluator.name, evaluations.look(weights))
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
