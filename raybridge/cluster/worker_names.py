"""Names for the workers of Train, which has no public way to give them: the one place that knows the inside of Ray."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup


class NamedWorkers(WorkerGroupCallback):
    """Has a trial's training workers called by its name. It runs in Train's controller, which serves one trial."""

    def __init__(self, trial: str) -> None:
        self.trial = trial

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Put a class in the workers' place that has a name; ranks are given out later."""
        WorkerGroup._worker_cls = worker_of(self.trial)


def worker_of(trial: str) -> type[RayTrainWorker]:
    """Train's worker, called by its trial."""

    class Worker(RayTrainWorker):
        def __repr__(self) -> str:
            return f"{trial} worker"

    Worker.__name__ = Worker.__qualname__ = RayTrainWorker.__name__
    return Worker
