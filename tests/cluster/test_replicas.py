"""The replica pool: every row once and in order, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

import psutil
import pytest
from asking import requests_of

from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.scales import POCKET


@pytest.fixture
def pool():
    """Two replicas on a cluster of this process's own."""
    import ray

    from raybridge.cluster.replicas import ReplicaPool, names_of, start_replicas
    from raybridge.cluster.session import NAMESPACE

    resources = replace(POCKET.resources, replicas=2)
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, namespace=NAMESPACE)
    try:
        yield ReplicaPool(start_replicas(names_of(2, launch="test"), resources))
    finally:
        ray.shutdown()


class Clock:
    """Time that passes only where somebody sleeps or waits."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def faked(monkeypatch):
    """A pool of so many replicas, of which some are down until a time; and its clock. A call takes a second."""
    from raybridge.cluster import replicas

    clock = Clock()
    monkeypatch.setattr(replicas, "time", clock)

    def wait(references, num_returns):
        clock.now += 1
        return references[:1], references[1:]

    def get(reference):
        number, until = reference
        if clock.now < until:
            raise replicas.RayActorError(error_msg="the actor died")
        return f"rows of {number}"

    monkeypatch.setattr(replicas.ray, "wait", wait)
    monkeypatch.setattr(replicas.ray, "get", get)

    def spread(down_until: list[float], count: int) -> dict[int, str]:
        pool = replicas.ReplicaPool(down_until)
        return dict(pool._spread(lambda number, until: (number, until), count))

    return spread, clock


def test_the_only_replica_is_waited_for_while_it_starts_again(faked):
    spread, clock = faked
    assert spread([90.0], 5) == {number: f"rows of {number}" for number in range(5)}
    assert 90 < clock.now < 200


def test_a_replica_that_rests_is_not_asked_while_another_answers(faked):
    spread, clock = faked
    assert len(spread([1e9, 0.0], 6)) == 6
    assert clock.now < 60


def test_a_batch_that_kills_whoever_answers_it_is_given_up_within_minutes(faked):
    spread, clock = faked
    with pytest.raises(RuntimeError, match="asked for 8 times, and the process that should have answered died each time"):
        spread([1e9], 1)
    assert clock.now < 600


def test_a_replica_that_cannot_start_is_not_asked_again(faked, monkeypatch):
    from raybridge.cluster import replicas
    from raybridge.cluster.failures import GivenUpError

    def get(reference):
        raise replicas.RayActorError(error_msg="died in __init__\nImportError: no torch", actor_init_failed=True)

    spread, clock = faked
    monkeypatch.setattr(replicas.ray, "get", get)
    with pytest.raises(GivenUpError, match=r"^a replica could not start: ImportError: no torch$"):
        spread([0.0], 3)
    assert clock.now < 5


def test_no_two_launches_have_a_replica_of_one_name():
    from raybridge.cluster.replicas import names_of

    one, other = (names_of(2, launch="compression") for _ in range(2))
    assert len({*one, *other}) == 4
    assert all(name.startswith("compression-") for name in one)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own: unclosed sockets and files, and what it deprecates of itself
def test_every_row_comes_once_and_in_order_though_a_replica_is_killed(pool):
    import ray

    trial = replace(POCKET.trial, dev_problems=48)
    requests = requests_of(trial, "dev", "zero", size=4)
    assert len(requests) == 12
    models = Models("cpu")
    alone = [row for request in requests for row in answer(request, models)]
    ray.get([replica.answer.remote(requests[0], None) for replica in pool.replicas])  # both are at work
    victims = [process for process in psutil.Process().children(recursive=True) if process.name().startswith("ray::Replica")]
    assert len(victims) == 2
    killer = threading.Timer(0.3, os.kill, (victims[0].pid, signal.SIGKILL))
    killer.start()
    together = pool.start(requests, None).result()
    killer.join()
    assert not victims[0].is_running()
    assert [row["problem"] for row in together] == [row["problem"] for row in alone]
    for one, other in zip(together, alone, strict=True):
        assert {key: value for key, value in one.items() if key != "seconds"} == {
            key: value for key, value in other.items() if key != "seconds"
        }
