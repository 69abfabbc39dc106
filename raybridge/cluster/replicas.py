"""Actors that hold the frozen models once, and the pool through which every trial evaluates.

A request whose actor died goes to another replica; rows are taken by the request's number, so none comes twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from torch import Tensor

from raybridge.arms import Arm
from raybridge.cluster.session import NAMESPACE, cluster
from raybridge.evaluation.answerer import Local, Rows
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request
from raybridge.scales import Resources

IN_FLIGHT = 2  # requests a replica may hold of one client: one at work, one waiting
TRIES = 8
REST = 5.0  # seconds that a dead replica is left alone while it restarts

Weights = dict[str, np.ndarray]


class Replica:
    """The frozen models on one device."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._here = Local(Models(device))

    def answer(self, request: Request, weights: Weights | None) -> Rows:
        """Sample rows of a request."""
        return self._here.start([request], _tensors(weights)).result()

    def costs(self, request: Request, arm: Arm, weights: Weights | None, alone: int) -> dict[str, dict[str, float]]:
        """What an arm costs here."""
        return self._here.costs(request, arm, _tensors(weights), alone=alone)

    def check(self, request: Request, weights: Weights | None) -> None:
        """Whether training and decoding read the first answer token from the same position."""
        self._here.check(request, _tensors(weights))


def _tensors(weights: Weights | None) -> dict[str, Tensor] | None:
    return None if weights is None else {name: torch.tensor(array) for name, array in weights.items()}


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
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="evaluation")

    @property
    def device(self) -> str:
        """How many answer."""
        return f"{len(self.replicas)} replicas"

    def answer(self, requests: Sequence[Request], weights: Mapping[str, Tensor] | None) -> Iterator[tuple[int, Rows]]:
        """(number of the request, its rows) as each is done."""
        reference = _put(weights)

        def ask(number: int, replica: ActorHandle) -> ray.ObjectRef:
            return replica.answer.remote(requests[number], reference)

        yield from self._spread(ask, len(requests))

    def start(self, requests: Sequence[Request], weights: Mapping[str, Tensor] | None) -> Future[Rows]:
        """The rows of all requests in their order, when they are asked for."""

        def rows() -> Rows:
            done = dict(self.answer(requests, weights))
            return [row for number in range(len(requests)) for row in done[number]]

        return self._threads.submit(rows)

    def costs(
        self, request: Request, arm: Arm, weights: Mapping[str, Tensor] | None, *, alone: int
    ) -> dict[str, dict[str, float]]:
        """What an arm costs on one of them."""
        reference = _put(weights)
        ((_, costs),) = self._spread(lambda _, replica: replica.costs.remote(request, arm, reference, alone), 1)
        return costs

    def check(self, request: Request, weights: Mapping[str, Tensor] | None) -> None:
        """Check on one of them that training and decoding read the first answer token from the same position."""
        reference = _put(weights)
        list(self._spread(lambda _, replica: replica.check.remote(request, reference), 1))

    def _spread(self, ask: Callable[[int, ActorHandle], ray.ObjectRef], count: int) -> Iterator[tuple[int, Any]]:
        """(number, what came back) of so many calls, as each is done."""
        waiting = deque((number, 1) for number in range(count))
        flying: dict[ray.ObjectRef, tuple[int, int, int]] = {}
        resting: dict[int, float] = {}
        while waiting or flying:
            while waiting and len(flying) < IN_FLIGHT * len(self.replicas):
                number, tries = waiting.popleft()
                chosen = self._least_busy([replica for _, _, replica in flying.values()], resting)
                flying[ask(number, self.replicas[chosen])] = (number, tries, chosen)
            (done, *_), _ = ray.wait(list(flying), num_returns=1)
            number, tries, chosen = flying.pop(done)
            try:
                yield number, ray.get(done)
            except RayActorError:
                if tries == TRIES:
                    raise
                resting[chosen] = time.monotonic() + REST
                waiting.append((number, tries + 1))

    def _least_busy(self, busy: Sequence[int], resting: Mapping[int, float]) -> int:
        now = time.monotonic()
        return min(range(len(self.replicas)), key=lambda i: (resting.get(i, 0.0) > now, busy.count(i)))


def _put(weights: Mapping[str, Tensor] | None) -> ray.ObjectRef | None:
    """Weights in the object store, once for all requests."""
    return None if weights is None else ray.put({name: tensor.numpy() for name, tensor in weights.items()})


@contextmanager
def pool_on(gpus: int) -> Iterator[ReplicaPool]:
    """A pool of one replica a GPU, on the cluster that RAY_ADDRESS names or one that is started here."""
    resources = Resources(workers=gpus, gpus_per_worker=1, cpus_per_worker=0.5, replicas=gpus, concurrent_trials=1, threads=4)
    with cluster(resources):
        yield ReplicaPool(start_replicas(resources))
