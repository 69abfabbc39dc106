"""Names that a person knows for what the dashboard lists: drivers, training workers, replicas, the job itself."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

from ray.job_config import JobConfig
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

# Train has no public way to name its workers; it takes callbacks of its own kind for such things (`fit` of its trainer).
PATIENCE = 5.0  # seconds that a dashboard has to say whether it asks for a token


def job(name: str) -> JobConfig:
    """A job under a name: the dashboard's page of jobs shows this key of the metadata."""
    return JobConfig(metadata={"job_name": name})


def readable(replica: str) -> str:
    """A replica's name as `replicas.names_of` makes it, without the mark that tells launches apart."""
    launch, _, kind, number = replica.rsplit("-", 3)
    return f"{kind}-{number} {launch}"


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


def way_in(url: str) -> str:
    """A dashboard's address and, where it asks for a token, how to get it."""
    try:
        with urllib.request.urlopen(f"{url}/api/authentication_mode", timeout=PATIENCE) as answer:
            asks = json.load(answer)["authentication_mode"] == "token"
    except (OSError, ValueError, KeyError) as error:
        return f"{url} (does not answer yet: {error}; if it asks for a token: {_ray()} get-auth-token)"
    return f"{url} (it asks for a token, which this prints: {_ray()} get-auth-token)" if asks else url


def _ray() -> str:
    """Ray's own command as a person types it here."""
    own = Path(sys.executable).with_name("ray")
    found = shutil.which("ray")
    return "ray" if found is not None and Path(found).absolute() == own.absolute() else str(own)
