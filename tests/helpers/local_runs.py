"""A trial trained in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable

from raybridge.evaluation.answerer import Answerer, Local
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.models import Models
from raybridge.results import Results, TrialRun
from raybridge.training.conclusion import conclude
from raybridge.training.loop import train
from raybridge.training.worker import Ended, Worker
from raybridge.trial import Trial
from raybridge.world import World


def run_trial(
    trial: Trial,
    results: Results,
    models: Models,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    evaluations: Evaluations | None = None,
) -> tuple[Ended, TrialRun]:
    """Train a trial with one worker; how it ended, and what it left on disk. evaluations: others than by these models."""
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    evaluations = evaluations or Evaluations(trial, Local(models))
    outcome = train(
        trial,
        run=run,
        source=models.load(trial.source),
        target=models.load(trial.target),
        world=World(),
        evaluations=evaluations,
        report=lambda row: None,
        interrupted=interrupted,
    )
    if outcome != "trained":
        return outcome, run
    conclude(trial, run, evaluations)
    return "complete", run


def worker_on(
    run: TrialRun,
    answerer: Callable[[], Answerer],
    *,
    interrupted: Callable[[], bool] = lambda: False,
    states_budget: int | None = None,
) -> Worker:
    """The only worker of a trial, in this process."""
    return Worker(
        run=run,
        world=World(),
        report=lambda row: None,
        interrupted=interrupted,
        answerer=answerer,
        states_budget=states_budget,
    )
