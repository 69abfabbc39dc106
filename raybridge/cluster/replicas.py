"""Actors that hold the frozen models once, and the pool through which every trial evaluates.

A request whose actor died goes to another replica, or waits for the restart of the only one; rows are taken by the request's
number, so none comes twice. Their names tell whose launch they belong to: two sweeps on one cluster have replicas of their own.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
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
TRIES = 8  # of a request; with the rests between them about four minutes
REST = 5.0  # seconds that a dead replica is left alone while it restarts, twice as long each time that it dies again
LONGEST_REST = 60.0

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


def names_of(count: int, *, launch: str) -> list[str]:
    """Names for the replicas of a launch, which no other launch has. launch: what a person knows it by."""
    mark = uuid.uuid4().hex[:12]
    return [f"{launch}-{mark}-replica-{number}" for number in range(count)]


def start_replicas(names: Sequence[str], resources: Resources) -> list[ActorHandle]:
    """Start a replica a name; they live as long as the handles. On GPUs, replica i works on GPU i."""
    actor = ray.remote(num_cpus=0, num_gpus=0, max_restarts=-1, max_task_retries=0)(Replica)
    handles = []
    for number, name in enumerate(names):
        options: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
        device = "cpu"
        if resources.gpus_per_worker:
            # Zero GPUs are asked for, so that Ray gives every GPU to a training worker; the replica shares one by its index.
            options["runtime_env"] = {
                "env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
            }
            device = f"cuda:{number}"
        handles.append(actor.options(**options).remote(device, resources.threads))
    return handles


def find_replicas(names: Sequence[str]) -> list[ActorHandle]:
    """Replicas that somebody else started, by name."""
    return [ray.get_actor(name, namespace=NAMESPACE) for name in names]


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
        deaths: Counter[int] = Counter()  # of a replica, since it last answered
        rested: dict[int, float] = {}  # when a replica is asked again
        while waiting or flying:
            while waiting and len(flying) < IN_FLIGHT * len(self.replicas):
                chosen = self._least_busy([replica for _, _, replica in flying.values()], rested)
                if chosen is None:
                    break
                number, tries = waiting.popleft()
                flying[ask(number, self.replicas[chosen])] = (number, tries, chosen)
            if not flying:
                time.sleep(max(0.0, min(rested.values()) - time.monotonic()))
                continue
            (done, *_), _ = ray.wait(list(flying), num_returns=1)
            number, tries, chosen = flying.pop(done)
            try:
                value = ray.get(done)
            except RayActorError as error:
                if tries == TRIES:
                    raise RuntimeError(
                        f"a batch was asked for {TRIES} times, and the process that should have answered died each time; "
                        "it may need more memory than there is; what killed it stands in Ray's logs "
                        "(/tmp/ray/session_latest/logs)"
                    ) from error
                if rested.get(chosen, 0.0) <= time.monotonic():  # else another of its requests has told of this death
                    deaths[chosen] += 1
                    rested[chosen] = time.monotonic() + min(REST * 2 ** (deaths[chosen] - 1), LONGEST_REST)
                waiting.append((number, tries + 1))
            else:
                deaths.pop(chosen, None)
                yield number, value

    def _least_busy(self, busy: Sequence[int], rested: Mapping[int, float]) -> int | None:
        """Which replica to ask, or None while all that died are resting."""
        now = time.monotonic()
        awake = [i for i in range(len(self.replicas)) if rested.get(i, 0.0) <= now]
        return min(awake, key=busy.count, default=None)


def _put(weights: Mapping[str, Tensor] | None) -> ray.ObjectRef | None:
    """Weights in the object store, once for all requests."""
    return None if weights is None else ray.put({name: tensor.numpy() for name, tensor in weights.items()})


@contextmanager
def pool_on(gpus: int) -> Iterator[ReplicaPool]:
    """A pool of one replica a GPU, on the cluster that RAY_ADDRESS names or one that is started here."""
    resources = Resources(workers=gpus, gpus_per_worker=1, cpus_per_worker=0.5, replicas=gpus, concurrent_trials=1, threads=4)
    with cluster(resources):
        yield ReplicaPool(start_replicas(names_of(gpus, launch="evaluate"), resources))
