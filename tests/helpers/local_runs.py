"""A trial trained in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from raybridge.evaluation.answerer import Local
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.models import Models
from raybridge.results import Results, TrialRun
from raybridge.training.loop import train
from raybridge.trial import Trial
from raybridge.world import World


def run_trial(
    trial: Trial, results: Results, models: Models, *, interrupted: Callable[[], bool] = lambda: False
) -> tuple[Literal["complete", "interrupted"], TrialRun]:
    """Train a trial with one worker; how it ended, and what it left on disk."""
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    outcome = train(
        trial,
        run=run,
        source=models.load(trial.source),
        target=models.load(trial.target),
        world=World(),
        evaluations=Evaluations(trial, Local(models)),
        report=lambda row: None,
        interrupted=interrupted,
    )
    return outcome, run
