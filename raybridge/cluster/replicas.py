"""Actors that hold the frozen models once, and the pool through which every trial evaluates.

A request whose actor died goes to another replica, or waits for the restart of the only one; rows are taken by the request's
number, so none comes twice. Their names tell whose launch they belong to: two sweeps on one cluster have replicas of their own.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import ActorUnschedulableError, RayActorError, RayTaskError
from torch import Tensor

from raybridge.arms import Arm
from raybridge.cluster.failures import GivenUpError, last_line, told_to_others
from raybridge.cluster.gauges import ReplicaGauges, WaitingGauge
from raybridge.cluster.naming import readable
from raybridge.cluster.nodes import alive, bound, check_models, hosts, places
from raybridge.cluster.session import NAMESPACE, cluster
from raybridge.evaluation.answerer import Local, Rows
from raybridge.evaluation.kept_source import Reading
from raybridge.evaluation.models import Models, make_room
from raybridge.evaluation.setting import Request, Setting
from raybridge.models.free import hold_to
from raybridge.results.states import States
from raybridge.scales import DRIVER_CPUS, Resources

IN_FLIGHT = 2  # requests a replica may hold of one client: one at work, one waiting
TRIES = 8  # of a request; with the rests between them about four minutes
REST = 5.0  # seconds that a dead replica is left alone while it restarts, twice as long each time that it dies again
LONGEST_REST = 60.0
HELD = 2**30  # bytes of checkpoints that a replica holds: of several trials that take turns, or one of any size
DEATHS = (RayActorError, ActorUnschedulableError)  # the second: with its node


@dataclass(frozen=True)
class Checkpoint:
    """A translator's weights in the object store.

    A replica takes them out where it has not yet: Ray would hand a bare reference's content over anew at every call.
    """

    reference: ray.ObjectRef


class Replica:
    """The frozen models on its devices, and the weights of the checkpoints that it was asked about last."""

    def __init__(
        self, name: str, devices: Sequence[str], threads: int, kept: States | None, share: float | None = None
    ) -> None:
        torch.set_num_threads(threads)
        self._name, self._devices = readable(name), [torch.device(device) for device in devices]
        self._gauges = ReplicaGauges(self._name)
        first, *beside = devices
        if share is not None:
            for device in devices:
                hold_to(torch.device(device), share)
        self._here = Local(Models(first, beside=beside, kept=kept))
        self._held: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __repr__(self) -> str:
        return self._name

    def answer(self, request: Request, checkpoint: Checkpoint | None) -> Rows:
        """Sample rows of a request."""
        rows = self._here.start([request], self._weights(checkpoint)).result()
        self._gauges.answered(len(rows), self._devices)
        return rows

    def costs(self, request: Request, arm: Arm, checkpoint: Checkpoint | None, alone: int) -> dict[str, dict[str, float]]:
        """What an arm costs here."""
        return self._here.costs(request, arm, self._weights(checkpoint), alone=alone)

    def check(self, request: Request, checkpoint: Checkpoint | None) -> None:
        """Whether training and decoding read the first answer token from the same position."""
        self._here.check(request, self._weights(checkpoint))

    def keep(self, reading: Reading) -> None:
        """Read questions with a source, and put its states of them on disk."""
        list(self._here.keep([reading]))

    def look(self, setting: Setting, checkpoint: Checkpoint) -> Rows:
        """What soft tokens look like from inside."""
        weights = self._weights(checkpoint)
        assert weights is not None, "a checkpoint has weights"
        return self._here.look(setting, weights)

    def _weights(self, checkpoint: Checkpoint | None) -> dict[str, Tensor] | None:
        """A checkpoint's weights, the same object at each request, for the translator is built anew for another one."""
        if checkpoint is None:
            return None
        key = checkpoint.reference.hex()
        if key not in self._held:
            arrays = ray.get(checkpoint.reference)
            make_room(self._held, _bytes_of, _bytes_of(arrays), most=HELD)
            # Copied once: the store's own memory is read-only, and is given back when the next checkpoint comes.
            self._held[key] = {name: torch.tensor(array) for name, array in arrays.items()}
        self._held.move_to_end(key)
        return self._held[key]


def _bytes_of(weights: Mapping[str, Any]) -> int:
    return sum(one.nbytes for one in weights.values())


def names_of(count: int, *, launch: str) -> list[str]:
    """Names for the replicas of a launch, which no other launch has. launch: what a person knows it by."""
    mark = uuid.uuid4().hex[:12]
    return [f"{launch}-{mark}-replica-{number}" for number in range(count)]


def start_replicas(
    names: Sequence[str], resources: Resources, kept: States | None = None, share: float | None = None
) -> list[ActorHandle]:
    """Start a replica a name, each in its place; they live as long as the handles. kept: where states of sources are.

    share: GiB that each may take of a GPU; None for as much as it finds.
    """
    actor = ray.remote(num_cpus=0, num_gpus=0, max_restarts=-1, max_task_retries=0)(Replica)
    where = places(hosts(alive(), resources), len(names), gpus_per_model=resources.gpus_per_model)
    handles = []
    for name, place in zip(names, where, strict=True):
        options: dict[str, Any] = {"name": name, "namespace": NAMESPACE, "scheduling_strategy": bound(place.node)}
        if resources.gpus_per_model:  # it sees all GPUs of its node, though it asks for none
            options["runtime_env"] = {
                "env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
            }
        devices = place.devices(resources.gpus_per_model)
        handles.append(actor.options(**options).remote(name, devices, resources.threads, kept, share))
    return handles


def find_replicas(names: Sequence[str]) -> list[ActorHandle]:
    """Replicas that somebody else started, by name."""
    return [ray.get_actor(name, namespace=NAMESPACE) for name in names]


class ReplicaPool:
    """A client of the replicas: least outstanding first, bounded in flight, and on an actor's death elsewhere."""

    def __init__(self, replicas: Sequence[ActorHandle]) -> None:
        self.replicas = list(replicas)
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="evaluation")
        self._put: tuple[Mapping[str, Tensor], Checkpoint] | None = None
        self._waiting = WaitingGauge()

    @property
    def device(self) -> str:
        """How many answer."""
        return f"{len(self.replicas)} replicas"

    def answer(self, requests: Sequence[Request], weights: Mapping[str, Tensor] | None) -> Iterator[tuple[int, Rows]]:
        """(number of the request, its rows) as each is done."""
        checkpoint = self._stored(weights)

        def ask(number: int, replica: ActorHandle) -> ray.ObjectRef:
            return replica.answer.remote(requests[number], checkpoint)

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
        checkpoint = self._stored(weights)
        ((_, costs),) = self._spread(lambda _, replica: replica.costs.remote(request, arm, checkpoint, alone), 1)
        return costs

    def check(self, request: Request, weights: Mapping[str, Tensor] | None) -> None:
        """Check on one of them that training and decoding read the first answer token from the same position."""
        checkpoint = self._stored(weights)
        list(self._spread(lambda _, replica: replica.check.remote(request, checkpoint), 1))

    def keep(self, readings: Sequence[Reading]) -> Iterator[int]:
        """Number of each reading whose states are on disk, as each is done."""
        for number, _ in self._spread(lambda number, replica: replica.keep.remote(readings[number]), len(readings)):
            yield number

    def look(self, setting: Setting, weights: Mapping[str, Tensor]) -> Rows:
        """What soft tokens look like from inside, to one of them."""
        checkpoint = self._stored(weights)
        ((_, rows),) = self._spread(lambda _, replica: replica.look.remote(setting, checkpoint), 1)
        return rows

    def _stored(self, weights: Mapping[str, Tensor] | None) -> Checkpoint | None:
        """Weights in the object store, once for all that is asked about them."""
        if weights is None:
            return None
        last = self._put
        if last is None or last[0] is not weights:
            last = weights, Checkpoint(ray.put({name: tensor.numpy() for name, tensor in weights.items()}))
            self._put = last
        return last[1]

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
                self._tell_waiting(flying.values())
            if not flying:
                time.sleep(max(0.0, min(rested.values()) - time.monotonic()))
                continue
            (done, *_), _ = ray.wait(list(flying), num_returns=1)
            number, tries, chosen = flying.pop(done)
            self._tell_waiting(flying.values())
            try:
                value = ray.get(done)
            except DEATHS as error:
                if (
                    isinstance(error, RayActorError) and error.actor_init_failed
                ):  # it would fail again, and is not started again
                    raise GivenUpError(f"a replica could not start: {last_line(str(error))}") from error
                if tries == TRIES:
                    raise GivenUpError(
                        f"a batch was asked for {TRIES} times, and the process that should have answered died each time; "
                        "it may need more memory than there is; what killed it stands in Ray's logs "
                        "(/tmp/ray/session_latest/logs)"
                    ) from error
                if rested.get(chosen, 0.0) <= time.monotonic():  # else another of its requests has told of this death
                    deaths[chosen] += 1
                    rested[chosen] = time.monotonic() + min(REST * 2 ** (deaths[chosen] - 1), LONGEST_REST)
                waiting.append((number, tries + 1))
            except RayTaskError as error:
                told_to_others(error)
                raise
            else:
                deaths.pop(chosen, None)
                yield number, value

    def _tell_waiting(self, flying: Iterable[tuple[int, int, int]]) -> None:
        busy = Counter(replica for _, _, replica in flying)
        self._waiting.tell({f"replica-{number}": busy[number] for number in range(len(self.replicas))})

    def _least_busy(self, busy: Sequence[int], rested: Mapping[int, float]) -> int | None:
        """Which replica to ask, or None while all that died are resting."""
        now = time.monotonic()
        awake = [i for i in range(len(self.replicas)) if rested.get(i, 0.0) <= now]
        return min(awake, key=busy.count, default=None)


@contextmanager
def pool_on(gpus: int, *, models: Iterable[str], gpus_per_model: int = 1) -> Iterator[ReplicaPool]:
    """A pool of replicas on so many GPUs, on the cluster that RAY_ADDRESS names or one that is started here.

    models: that they will be asked about, which each of its machines must have.
    """
    if gpus % gpus_per_model:
        raise ValueError(f"--gpus {gpus} is no multiple of --gpus-per-model {gpus_per_model}")
    count = gpus // gpus_per_model
    counts = dict(workers=count, replicas=count, concurrent_trials=1, threads=4)
    resources = Resources(gpus_per_model=gpus_per_model, cpus_per_worker=DRIVER_CPUS, **counts)  # a replica asks for none
    with cluster(resources, name="evaluate"):
        check_models(models, resources=resources)
        yield ReplicaPool(start_replicas(names_of(count, launch="evaluate"), resources))
