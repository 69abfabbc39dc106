"""What a complete trial has lost comes back: evaluated again from the checkpoints that are kept, and nothing else touched."""

from __future__ import annotations

import logging

from raybridge.analysis.measures import summarised
from raybridge.evaluation.evaluations import Evaluations
from raybridge.results import TrialRun
from raybridge.results.gaps import Gaps
from raybridge.training.judge import Judge
from raybridge.translators.weights import read_weights
from raybridge.trial import Trial

log = logging.getLogger(__name__)


def fill(gaps: Gaps, trial: Trial, run: TrialRun, evaluations: Evaluations) -> None:
    """Compute again what can be."""
    log.info("complete, but %s: computed again", gaps.told)
    judge = Judge(trial=trial, run=run, evaluations=evaluations)
    with run.alone():
        for _, split, step in gaps.samples:
            evaluations.submit(step=step, split=split, weights=read_weights(run.checkpoint_path(step)))
            judge.take(step, split)
        for evaluator, of, at in gaps.evals:
            samples = run.samples(evaluator, of, at)
            assert samples is not None, "gaps of evals have their samples"
            run.add_evals(summarised(samples, step=at, split=of, evaluator=evaluator))
    result = run.result()
    if gaps.conditioning and result is not None:
        weights = read_weights(run.checkpoint_path(int(result["best_step"])))
        run.write_conditioning(trial.evaluator.name, evaluations.look(weights))
