"""What a worker and its replica may take of their card: the whole of it, and no more, whatever else is asked of it."""

from dataclasses import replace
from threading import Event, Thread

import pytest

from raybridge.models import lm
from raybridge.models.memory import UnpredictableError
from raybridge.models.reading import told_to
from raybridge.training import allotment, workload
from raybridge.training.allotment import allotted, replica_share
from raybridge.training.footprint import footprint_of
from raybridge.training.memory import fit
from raybridge.training.micro_batches import MicroBatches
from raybridge.world import World

CARD = 8.0  # GiB


def test_both_together_take_the_card_and_each_what_it_is_predicted_to(trial):
    share = allotted(trial, workers=1, card=CARD, cards=1, states_on_disk=True)
    found = fit(footprint_of(trial, workers=1, cards=1, states_on_disk=True), CARD)
    assert share.worker + share.replica == pytest.approx(CARD)
    assert share.worker >= sum(found.worker.values())
    assert share.replica >= sum(found.replica.values())
    assert MicroBatches(share=8, predicted=share.cut).cut == share.cut


def test_what_is_left_goes_to_recorded_passes_first(trial):
    told = dict(workers=1, cards=1, states_on_disk=True)
    found = fit(footprint_of(trial, workers=1, cards=1, states_on_disk=True), CARD)
    least = sum(found.worker.values()) + sum(found.replica.values())
    share = allotted(trial, card=CARD, **told)
    assert share.worker >= sum(found.worker.values()) + min(found.recordings, CARD - least)


def test_a_replica_leaves_room_for_the_largest_worker_of_a_sweep(trial):
    larger = replace(trial, name="larger", batch=1024)
    told = dict(workers=1, card=CARD, cards=1, states_on_disk=True)
    shares = [allotted(one, **told).replica for one in (trial, larger)]
    assert shares[0] != shares[1]
    assert replica_share([trial, larger], **told) == min(shares)


def test_where_one_is_not_known_each_takes_what_it_finds(trial, monkeypatch):
    told = dict(workers=1, card=1.0, cards=1, states_on_disk=True)
    assert allotted(trial, **told) is None  # it does not fit, and is refused in the plan
    assert replica_share([trial], **told) is None

    def unknown(*args, **kwargs):
        raise UnpredictableError("a cache of another kind")

    monkeypatch.setattr(allotment, "fit", unknown)
    assert replica_share([trial], **told | {"card": CARD}) is None


def test_it_is_foreseen_when_no_model_is_being_built(trial, monkeypatch):
    """Transformers decides the precision of every thread while it builds one."""
    seen, reading = [], Event()
    monkeypatch.setattr(workload, "_allotted", lambda *_, on_disk: seen.append(on_disk))
    beside = Thread(target=workload._foreseen, args=(trial, World(), reading))
    beside.start()
    beside.join(timeout=0.5)
    assert (beside.is_alive(), seen) == (True, [])
    with told_to(lambda *_: reading.set()):
        lm.load("pocket:target", device="cpu")
    beside.join(timeout=60)
    assert seen == [True]
