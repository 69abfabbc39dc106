"""What can be known of experiments before anything is computed: what they read, what cannot run, what a machine needs."""

from __future__ import annotations

from collections.abc import Sequence

from raybridge.data import UnreachableError
from raybridge.evaluation.setting import frozen_arms
from raybridge.models import names
from raybridge.results import Results
from raybridge.results.states import States
from raybridge.training.worker import by_engine, engine_of
from raybridge.trial import Workload


def looked_at(trials: Sequence[Workload], *, device: str, workers: int) -> tuple[list[Workload], dict[str, str]]:
    """The trials with the contents of what they read; and by name why those of some cannot be known on this machine.

    ValueError for what can be seen to fail.
    """
    found, dark = [], {}
    for trial in trials:
        engine = engine_of(trial)
        try:
            sealed = engine.sealed(trial, device=device)  # says at once that the hub cannot be reached
            for name in trial.models:
                names.check(name)
            engine.check(trial, workers=workers)
            found.append(sealed)
        except UnreachableError as error:
            found.append(trial)
            dark[trial.name] = str(error)
    return found, dark


def needs_of(
    trials: Sequence[Workload], *, workers: int, card: float | None, cards: int, kept: States, results: Results
) -> list[str]:
    """What trials take of a machine, a line each; see `worker.Engine.needs`."""
    told = dict(workers=workers, cards=cards)
    needed = [engine.needs(some, **told, card=card, kept=kept, results=results) for engine, some in by_engine(trials)]
    return [line for lines in needed for line in lines]


def baselines_there(trials: Sequence[Workload], results: Results) -> bool:
    """Whether every arm without a translator has been computed."""
    settings = [setting for trial in trials for setting in engine_of(trial).settings(trial)]
    return all(results.baseline(one.key(arm)) is not None for one in settings for arm in frozen_arms(one.split))
