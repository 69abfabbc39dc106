"""Where an experiment meets the worker that runs it, whatever runs the worker: what each of the two offers the other."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from raybridge.config import lacking
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.setting import Setting
from raybridge.results import Results, TrialRun
from raybridge.results.states import States
from raybridge.trial import Workload
from raybridge.world import World

Ended = Literal["complete", "trained", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of the processes that run an experiment together.

    run: where its results go; rank 0 alone writes there. report: tells the scheduler numbers, on every rank at the same
    steps. interrupted: whether to save a checkpoint and end; asked on rank 0. answerer: finds who evaluates; there is
    somebody only where the engine names settings. states_budget: bytes that kept states of sources may take; None for a share
    of the disk.
    """

    run: TrialRun
    world: World
    report: Callable[[dict[str, Any]], None]
    interrupted: Callable[[], bool]
    answerer: Callable[[], Answerer]
    states_budget: int | None = None


class Engine(Protocol):
    """The module that runs a kind of experiment: what `Workload.ENGINE` names."""

    def sealed(self, experiment: Any, *, device: str) -> Any:
        """The experiment with the contents of what it reads, of which its fingerprint is made; itself where it reads nothing.

        device: what computes it, as torch calls its kind. ValueError where something of it is not here.
        """

    def check(self, experiment: Any, *, workers: int) -> None:
        """Refuse in the plan what cannot run, or not on so many workers; that its models are there is known.

        UnreachableError where something of it is not here, and another machine may have it.
        """

    def needs(
        self, experiments: Sequence[Any], *, workers: int, card: float | None, cards: int, kept: States, results: Results
    ) -> Sequence[str]:
        """What they can show and what they take, in lines for their plan. ValueError for one that cannot fit, with what would.

        card: GiB of each GPU; None where no GPU computes. cards: of a worker. kept: where states of sources are. results: where
        all else is.
        """

    def prepare(self, experiments: Sequence[Any], answerer: Answerer, *, device: str, kept: States, results: Results) -> None:
        """Compute, while workers start, what these share; a worker that needs it waits for it, or computes it itself."""

    def replica_share(self, experiments: Sequence[Any], *, workers: int, card: float, cards: int, kept: States) -> float | None:
        """GiB of each GPU that a replica may take beside a worker of any of these; None for as much as it finds."""

    def settings(self, experiment: Any) -> Sequence[Setting]:
        """Where it is evaluated: the frozen arms of these are computed beside it. None for what evaluates nothing."""

    def provenance(self, experiment: Any) -> dict[str, Any]:
        """What provenance.json holds."""

    def run(self, experiment: Any, worker: Worker) -> Ended:
        """This worker's part of it, from the last checkpoint if there is one.

        Complete once result.json is written. Trained where only what needs no worker is left, and trained.json says so.
        """

    def conclude(self, experiment: Any, run: TrialRun, answerer: Answerer) -> None:
        """What is left of a trained one, and result.json; or what a complete one has lost. It needs no worker."""


def by_engine(experiments: Iterable[Workload]) -> list[tuple[Engine, list[Workload]]]:
    """Experiments with what runs them, those of one engine together."""
    alike: dict[str, list[Workload]] = {}
    for experiment in experiments:
        alike.setdefault(experiment.ENGINE, []).append(experiment)
    return [(engine_of(some[0]), some) for some in alike.values()]


def engine_of(experiment: Workload) -> Engine:
    """What runs an experiment. The name comes from its class, never from anything that was read."""
    name, kind = experiment.ENGINE, type(experiment).__name__
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"the engine of {kind} cannot be imported: {error}") from error
    if missing := lacking(found, Engine):
        raise ValueError(f"the engine of {kind}, {name}, does not define {', '.join(missing)}")
    return cast(Engine, found)
