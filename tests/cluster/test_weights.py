"""A checkpoint reaches a replica once, and its translator is built once, however many requests ask about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from asking import requests_of

from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.models import names
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


@pytest.mark.parametrize(("room", "times"), [(2**30, 1), (0, 2)])
def test_trials_that_take_turns_take_theirs_out_once_as_far_as_there_is_room(trial, weights, counts, monkeypatch, room, times):
    from raybridge.cluster import replicas
    from raybridge.evaluation import models

    monkeypatch.setattr(replicas, "HELD", room)
    monkeypatch.setattr(models, "TRANSLATORS", room)
    replica = replicas.Replica("test-0-replica-0", ["cpu"], 1, None)
    longer = replace(trial, translator=replace(trial.translator, soft_tokens=2 * trial.translator.soft_tokens))
    drawn = longer.translator.build(names.width_of(trial.source), names.width_of(trial.target), target_rms=1.0).state_dict()
    counts.clear()
    asked = []
    for one, of_one in ((trial, weights), (longer, drawn)):
        asked.append((requests_of(one, "dev", "bridged", size=2)[0], replicas.ReplicaPool([])._stored(of_one)))
    for _ in range(2):
        for request, checkpoint in asked:
            replica.answer(request, checkpoint)
    assert counts == {"put": 2, "got": 2 * times, "built": 2 * times}
