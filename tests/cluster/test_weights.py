"""A checkpoint reaches a replica once, and its translator is built once, however many requests ask about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from asking import requests_of

from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.translators.bottlenecked import Bottlenecked


@dataclass(frozen=True)
class Reference:
    """What Ray's is to the code under test."""

    number: int

    def hex(self) -> str:
        return f"{self.number:x}"


@pytest.fixture
def counts(monkeypatch):
    """How often weights were put and taken out, and a translator was built; the object store is a list."""
    from raybridge.cluster import replicas

    counts, store = Counter(), []

    def put(value):
        counts["put"] += 1
        store.append(value)
        return Reference(len(store) - 1)

    def get(reference):
        counts["got"] += 1
        return store[reference.number]

    build = Bottlenecked.build

    def counted(*args, **options):
        counts["built"] += 1
        return build(*args, **options)

    monkeypatch.setattr(replicas.ray, "put", put)
    monkeypatch.setattr(replicas.ray, "get", get)
    monkeypatch.setattr(Bottlenecked, "build", counted)
    return counts


def test_of_many_requests_the_first_takes_the_weights_out_and_builds(trial, weights, counts):
    from raybridge.cluster.replicas import Replica, ReplicaPool

    pool, replica = ReplicaPool([]), Replica("test-0-replica-0", ["cpu"], 1, None)
    requests = requests_of(trial, "dev", "bridged", size=2)
    assert len(requests) == 4
    found = [row for request in requests for row in replica.answer(request, pool._stored(weights))]
    assert counts == {"put": 1, "got": 1, "built": 1}
    alone = [row for request in requests for row in answer(request, Models("cpu"), weights)]
    assert [(row["completion"], row["nll"]) for row in found] == [(row["completion"], row["nll"]) for row in alone]


def test_a_replica_that_starts_again_and_one_that_is_asked_about_another_checkpoint_take_them_out_anew(trial, weights, counts):
    from raybridge.cluster.replicas import Replica, ReplicaPool

    pool, replica = ReplicaPool([]), Replica("test-0-replica-0", ["cpu"], 1, None)
    request, *_ = requests_of(trial, "dev", "bridged", size=2)
    before = replica.answer(request, pool._stored(weights))
    again = Replica("test-0-replica-0", ["cpu"], 1, None).answer(request, pool._stored(weights))
    assert (counts["put"], counts["got"], counts["built"]) == (1, 2, 2)
    other = {name: tensor * 2 for name, tensor in weights.items()}
    changed = replica.answer(request, pool._stored(other))
    assert (counts["put"], counts["got"]) == (2, 3)
    assert [row["nll"] for row in before] == [row["nll"] for row in again] != [row["nll"] for row in changed]
