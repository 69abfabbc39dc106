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

    from raybridge.cluster.replicas import ReplicaPool, start_replicas
    from raybridge.cluster.session import NAMESPACE

    resources = replace(POCKET.resources, replicas=2)
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, namespace=NAMESPACE)
    try:
        yield ReplicaPool(start_replicas(resources))
    finally:
        ray.shutdown()


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
