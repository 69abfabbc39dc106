"""Actors that hold the frozen models once, and the pool through which every trial evaluates.

A request whose actor died goes to another replica; its key says which rows it stands for, so no row comes twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from torch import Tensor

from raybridge.cluster.session import NAMESPACE
from raybridge.data import Split
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request, problems_of, requests_for
from raybridge.scales import Resources
from raybridge.trial import Trial

IN_FLIGHT = 2  # requests a replica may hold of one client: one at work, one waiting
TRIES = 8
REST = 5.0  # seconds that a dead replica is left alone while it restarts

Weights = dict[str, np.ndarray]


class Replica:
    """The frozen models on one device."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._models = Models(device)

    def answer(self, request: Request, weights: Weights | None) -> list[dict[str, Any]]:
        """Sample rows of a request."""
        tensors = None if weights is None else {name: torch.tensor(array) for name, array in weights.items()}
        return answer(request, self._models, tensors)


def start_replicas(resources: Resources) -> list[ActorHandle]:
    """Start the replicas under their names; they live as long as the handles. On GPUs, replica i works on GPU i."""
    actor = ray.remote(num_cpus=0, num_gpus=0, max_restarts=-1, max_task_retries=0)(Replica)
    handles = []
    for number in range(resources.replicas):
        options: dict[str, Any] = {"name": f"replica-{number}", "namespace": NAMESPACE, "get_if_exists": True}
        device = "cpu"
        if resources.gpus_per_worker:
            # Zero GPUs are asked for, so that Ray gives every GPU to a training worker; the replica shares one by its index.
            options["runtime_env"] = {
                "env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
            }
            device = f"cuda:{number}"
        handles.append(actor.options(**options).remote(device, resources.threads))
    return handles


def find_replicas(count: int) -> list[ActorHandle]:
    """The replicas of this cluster, by name."""
    return [ray.get_actor(f"replica-{number}", namespace=NAMESPACE) for number in range(count)]


class ReplicaPool:
    """A client of the replicas: least outstanding first, bounded in flight, and on an actor's death elsewhere."""

    def __init__(self, replicas: Sequence[ActorHandle]) -> None:
        self.replicas = list(replicas)

    def map(self, requests: Sequence[Request], weights: Weights | None = None) -> list[dict[str, Any]]:
        """The rows of all requests, in their order. Waits."""
        reference = ray.put(weights) if weights is not None else None
        waiting = deque((request, 1) for request in requests)
        flying: dict[ray.ObjectRef, tuple[Request, int, int]] = {}
        resting: dict[int, float] = {}
        rows: dict[str, list[dict[str, Any]]] = {}
        while waiting or flying:
            while waiting and len(flying) < IN_FLIGHT * len(self.replicas):
                request, tries = waiting.popleft()
                chosen = self._least_busy([replica for _, _, replica in flying.values()], resting)
                flying[self.replicas[chosen].answer.remote(request, reference)] = (request, tries, chosen)
            (done, *_), _ = ray.wait(list(flying), num_returns=1)
            request, tries, chosen = flying.pop(done)
            try:
                rows[request.key] = ray.get(done)
            except RayActorError:
                if tries == TRIES:
                    raise
                resting[chosen] = time.monotonic() + REST
                waiting.append((request, tries + 1))
        return [row for request in requests for row in rows[request.key]]

    def _least_busy(self, busy: Sequence[int], resting: Mapping[int, float]) -> int:
        now = time.monotonic()
        return min(range(len(self.replicas)), key=lambda i: (resting.get(i, 0.0) > now, busy.count(i)))


class ReplicaEvaluations:
    """Evaluations of one trial on the pool: submitting returns at once, collecting waits."""

    def __init__(self, trial: Trial, pool: ReplicaPool) -> None:
        self.trial, self.pool = trial, pool
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="evaluation")
        self._asked: dict[tuple[int, str], Future[list[dict[str, Any]]]] = {}

    def submit(self, *, step: int, split: Split, arms: tuple[str, ...], weights: Mapping[str, Tensor]) -> None:
        """Start an evaluation of these weights."""
        requests = requests_for(self.trial, step=step, split=split, arms=arms)
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        self._asked[step, split] = self._threads.submit(self.pool.map, requests, arrays)

    def collect(self, *, step: int, split: Split) -> pd.DataFrame:
        """The sample rows of what was submitted."""
        return in_order(self._asked.pop((step, split)).result(), problems_of(self.trial, split))
