"""How a trial is run by whoever has workers: the engine (training.worker) that `Trial.ENGINE` names."""

from __future__ import annotations

from typing import Any

from raybridge.data import Split
from raybridge.evaluation import identity
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.provenance import provenance_of
from raybridge.evaluation.setting import Setting, setting_of
from raybridge.models import lm
from raybridge.training.loop import train
from raybridge.training.worker import Ended, Worker
from raybridge.trial import Trial

SPLITS: tuple[Split, ...] = ("dev", "test")


def sealed(trial: Trial, *, device: str) -> Trial:
    """With the contents of its models, its benchmark and its prompts."""
    return identity.sealed(trial, device=device)


def check(trial: Trial) -> None:
    """Refuse a dataset that is not there, or has a broken line."""
    trial.evaluator.problems("dev")


def settings(trial: Trial) -> list[Setting]:
    """The dev problems, which it is selected by, and the test problems."""
    return [setting_of(trial, split) for split in SPLITS]


def provenance(trial: Trial) -> dict[str, Any]:
    """Commit, versions, models, prompts and hardware."""
    return provenance_of(trial)


def run(trial: Trial, worker: Worker) -> Ended:
    """Load the models and train the translator between them."""
    source = lm.load(trial.source, device=worker.world.device)
    target = source if trial.source == trial.target else lm.load(trial.target, device=worker.world.device)
    return train(
        trial,
        run=worker.run,
        source=source,
        target=target,
        world=worker.world,
        evaluations=Evaluations(trial, worker.answerer()),
        report=worker.report,
        interrupted=worker.interrupted,
    )
