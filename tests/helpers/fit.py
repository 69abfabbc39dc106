"""A workload that is no translator: slope and intercept of a line by gradient descent. Its own engine, in one file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from raybridge.config import Json, identity, resolve
from raybridge.results import TrialRun
from raybridge.results.gaps import Gaps
from raybridge.results.headline import Headline
from raybridge.training.worker import Ended, Worker

POINTS = 32
EVERY = 5  # steps between two checkpoints, and two reports
PAUSE = 0.05  # seconds a step, or it would have ended before anybody could kill it


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The least squares line through points that a seed scatters."""

    ENGINE: ClassVar[str] = "fit"
    models: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[Headline] = Headline(name="slope", column="slope")

    name: str
    seed: int
    steps: int
    rate: float

    @property
    def fingerprint(self) -> str:
        return identity(self)

    def resolved(self) -> dict[str, Json]:
        return resolve(self)

    def planned(self) -> dict[str, str]:
        return {"steps": str(self.steps), "rate": f"{self.rate:g}"}

    def gaps(self, run: TrialRun) -> Gaps:
        return Gaps()

    def smoke(self) -> Fit:
        return replace(self, steps=2)


def sealed(fit: Fit, *, device: str) -> Fit:
    return fit


def check(fit: Fit, *, workers: int) -> None:
    if fit.rate > 1:
        raise ValueError(f"fit {fit.name}: rate must be at most 1, or it diverges, not {fit.rate}")


def needs(fits, **machine: Any) -> list[str]:
    return []


def prepare(fits, answerer, **machine: Any) -> None:
    pass


def replica_share(fits, **machine: Any) -> None:
    return None


def settings(fit: Fit) -> list:
    return []


def provenance(fit: Fit) -> dict[str, Any]:
    return {"versions": {"numpy": np.__version__}}


def points(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, POINTS)
    return x, 3 * x + 1 + generator.normal(0, 0.1, POINTS)


def run(fit: Fit, worker: Worker) -> Ended:
    on_disk, first = worker.run, worker.world.rank == 0
    x, y = points(fit.seed)
    step, slope, intercept, seconds = 0, 0.0, 0.0, 0.0
    if steps := on_disk.checkpoints():
        state = json.loads((on_disk.checkpoint_path(steps[-1]) / "state.json").read_text())
        step, slope, intercept, seconds = (state[name] for name in ("step", "slope", "intercept", "seconds"))
    if first:
        on_disk.truncate_metrics(step)
    while step < fit.steps:
        error = slope * x + intercept - y
        slope, intercept = slope - fit.rate * float((error * x).mean()), intercept - fit.rate * float(error.mean())
        time.sleep(PAUSE)
        step, seconds = step + 1, seconds + PAUSE
        state = {"step": step, "slope": slope, "intercept": intercept, "seconds": seconds}
        stop = worker.world.agree(first and worker.interrupted())
        if first:
            on_disk.append_metrics({**state, "loss": float((error**2).mean())})
            if stop or step % EVERY == 0:
                on_disk.write_checkpoint(step, {"state.json": json.dumps(state).encode()})
                on_disk.keep_checkpoints({step})
        if step % EVERY == 0:
            worker.report({"step": step, "slope": slope})
        if stop:
            return "interrupted"
    if first:
        on_disk.finish(
            {"name": fit.name, "fingerprint": fit.fingerprint, "steps": step, "slope": slope, "intercept": intercept}
        )
    return "complete"


def conclude(fit: Fit, run: TrialRun, answerer) -> None:
    raise AssertionError("its workers leave nothing to be concluded")
