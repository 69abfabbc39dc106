"""What the dashboard, Prometheus and Grafana can draw: gauges of trials, replicas and GPU memory (docs/dashboard.md)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from ray.util.metrics import Counter, Gauge

from raybridge.analysis.progress import Row, row_of
from raybridge.results import Results
from raybridge.trial import Workload

EVERY = 5.0  # seconds between two looks at the trials; Ray exports its metrics as seldom
OF_TRIALS = {
    "step": "steps done",
    "loss": "as logged last",
    "tokens_per_second": "as logged last",
    "headline": "what the trial is followed by, such as dev accuracy, as measured last",
    "control": "the same of its control, such as shuffled",
    "seconds_left": "of training",
}


class TrialGauges:
    """Gauges of the trials of a sweep, by trial; headline and control also by the measure's name."""

    def __init__(self, sweep: str) -> None:
        tags = ("sweep", "trial", "measure")
        self._gauges = {name: Gauge(f"raybridge_{name}", what, tags) for name, what in OF_TRIALS.items()}
        self._sweep = sweep

    def tell(self, row: Row) -> None:
        """Set what is known of a trial."""
        for name, (value, measure) in values(row).items():
            self._gauges[name].set(value, tagged(sweep=self._sweep, trial=row.name, measure=measure))


def tagged(**tags: str) -> dict[str, str]:
    """Tags of a metric, of which Ray takes ASCII alone; a folder's name may have other letters."""
    return {name: text.encode("ascii", "backslashreplace").decode() for name, text in tags.items()}


def values(row: Row) -> dict[str, tuple[float, str]]:
    """(value, measure) by gauge of what is known of a trial; what is not known has no value."""
    measured, headline = row.measured, row.headline
    told = {
        "step": (float(row.step), ""),
        "loss": (row.loss, ""),
        "tokens_per_second": (row.tokens_per_second, ""),
        "headline": (measured.value if measured else None, headline.name),
        "control": (measured.control if measured else None, headline.control or ""),
        "seconds_left": (0.0 if row.state == "complete" else row.seconds_left, ""),
    }
    return {name: (value, measure) for name, (value, measure) in told.items() if value is not None}


@contextmanager
def gauged(trials: Sequence[Workload], results: Results, *, sweep: str) -> Iterator[None]:
    """Gauges of these trials while they run, read from disk as the live table is."""
    gauges, over, since = TrialGauges(sweep), threading.Event(), time.time()

    def watch() -> None:
        last = False
        while not last:
            last = over.wait(EVERY)
            for trial in trials:
                gauges.tell(row_of(trial, results, since=since))

    thread = threading.Thread(target=watch, name="gauges", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class ReplicaGauges:
    """What a replica tells of itself. process: what a person knows it by."""

    def __init__(self, process: str) -> None:
        self._rows = Counter("raybridge_replica_rows", "rows answered", ("replica",))
        self._memory = MemoryGauge(process)
        self._tags = tagged(replica=process)

    def answered(self, rows: int, devices: Sequence[torch.device]) -> None:
        """Count the rows of a request, and look at the memory."""
        if rows:
            self._rows.inc(rows, self._tags)
        self._memory.look(devices)


class MemoryGauge:
    """What a process holds of its GPUs."""

    def __init__(self, process: str) -> None:
        self._gauge = Gauge("raybridge_gpu_memory_gib", "GiB that a process holds of its GPUs", ("process",))
        self._tags = tagged(process=process)

    def look(self, devices: Sequence[torch.device]) -> None:
        """Set it; of a CPU there is none."""
        if held := [torch.cuda.memory_reserved(device) for device in devices if device.type == "cuda"]:
            self._gauge.set(sum(held) / 2**30, self._tags)


class WaitingGauge:
    """Requests that this process has asked of each replica and that are not answered."""

    def __init__(self) -> None:
        self._gauge = Gauge("raybridge_replica_requests_waiting", "requests asked and not answered", ("replica",))

    def tell(self, waiting: dict[str, int]) -> None:
        """Set them, by replica."""
        for replica, count in waiting.items():
            self._gauge.set(count, tagged(replica=replica))
