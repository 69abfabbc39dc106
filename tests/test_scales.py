"""What the resources of a scale become on a machine, and which scale it is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybridge.scales import DRIVER_CPUS, FULL, POCKET, SCALES, SMALL, Machine, Node, choose

CPUS = 64.0


def machine(gpus: int, *, cpus: float = CPUS, told: bool = False) -> Machine:
    return Machine(gpus=gpus, cpus=cpus, told=told)


def cluster(*nodes: tuple[int, float]) -> Machine:
    """Of nodes that have so many GPUs and CPUs."""
    there = tuple(Node(id=str(index), name=f"node{index}", gpus=gpus, cpus=cpus) for index, (gpus, cpus) in enumerate(nodes))
    return Machine(gpus=sum(gpus for gpus, _ in nodes), cpus=sum(cpus for _, cpus in nodes), cluster=True, nodes=there)


@pytest.mark.parametrize(
    ("scale", "gpus", "asked", "workers", "at_once", "replicas"),
    [
        (FULL, 8, {}, 4, 2, 8),
        (FULL, 4, {}, 4, 1, 4),
        (FULL, 2, dict(workers=2), 2, 1, 2),
        (FULL, 2, {}, 2, 1, 2),
        (FULL, 3, {}, 2, 1, 3),  # three workers would not share a batch that four can
        (FULL, 1, {}, 1, 1, 1),
        (FULL, 8, dict(workers=8), 8, 1, 8),
        (FULL, 8, dict(concurrent=1), 4, 1, 8),
        (FULL, 0, {}, 4, 1, 1),  # planned here, run elsewhere
        (SMALL, 4, {}, 1, 4, 4),
        (SMALL, 4, dict(workers=4), 4, 1, 4),
        (SMALL, 4, dict(concurrent=2), 1, 2, 4),
        (SMALL, 1, {}, 1, 1, 1),
        (POCKET, 0, {}, 1, 2, 1),
        (POCKET, 4, {}, 1, 2, 1),
        (POCKET, 0, dict(concurrent=3), 1, 3, 1),
    ],
)
def test_workers_trials_at_once_and_replicas_follow_from_the_gpus(scale, gpus, asked, workers, at_once, replicas):
    found = scale.resources.on(machine(gpus), **asked)
    assert (found.workers, found.concurrent_trials, found.replicas) == (workers, at_once, replicas)


def test_as_many_trials_again_start_where_they_can_only_wait_for_gpus():
    assert FULL.resources.on(machine(4)).ahead == 1
    assert FULL.resources.on(machine(7)).ahead == 1
    assert FULL.resources.on(machine(8), concurrent=1).ahead == 0  # it would not wait, but run
    assert SMALL.resources.on(machine(4)).ahead == 4  # four may end at once, and each is tested for a while
    assert SMALL.resources.on(machine(8, cpus=16)).ahead == 0  # what is short is CPUs
    assert POCKET.resources.on(machine(0)).ahead == 0


def test_trials_at_once_need_cpus_too():
    assert SMALL.resources.on(machine(8, cpus=16.1)).concurrent_trials == 4
    assert SMALL.resources.on(machine(8, cpus=16)).concurrent_trials == 4
    assert SMALL.resources.on(machine(8, cpus=15)).concurrent_trials == 3
    assert POCKET.resources.on(machine(0, cpus=1)).concurrent_trials == 1


@pytest.mark.parametrize(
    ("scale", "gpus", "cpus", "workers", "at_once"),
    [
        (SMALL, 1, 4, 1, 1),
        (SMALL, 2, 8, 1, 2),
        (SMALL, 4, 16, 1, 4),
        (SMALL, 8, 32, 1, 8),
        (FULL, 1, 4, 1, 1),
        (FULL, 2, 8, 2, 1),
        (FULL, 4, 16, 4, 1),
        (FULL, 8, 32, 4, 2),
    ],
)
def test_drivers_cost_no_trial_where_cores_divide_exactly(scale, gpus, cpus, workers, at_once):
    found = scale.resources.on(machine(gpus, cpus=cpus))
    assert (found.workers, found.concurrent_trials) == (workers, at_once)
    drivers = (found.concurrent_trials + found.ahead) * DRIVER_CPUS
    assert at_once * workers * found.cpus_per_worker + drivers <= cpus
    spread = scale.resources.on(cluster(*[(gpus, cpus)] * 8))  # eight nodes, and the drivers of all of them on one
    assert spread.concurrent_trials * spread.workers == 8 * gpus // spread.workers * spread.workers
    drivers = (spread.concurrent_trials + spread.ahead) * DRIVER_CPUS
    assert gpus * spread.cpus_per_worker + drivers <= cpus


def test_more_trials_at_once_than_fit_are_refused():
    with pytest.raises(ValueError, match=r"--concurrent 3: a trial takes 4 GPU\(s\) and .* there are 8 and 64; at most 2 run"):
        FULL.resources.on(machine(8), concurrent=3)


@pytest.mark.parametrize(("gpus", "name"), [(0, "pocket"), (1, "small"), (3, "small"), (4, "full"), (8, "full")])
def test_the_scale_is_what_the_machine_can_carry(gpus, name):
    assert choose(machine(gpus), None)[0].name == name


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_a_trial_is_the_same_on_every_machine(scale):
    assert {choose(machine(gpus), scale.name)[0].trial for gpus in range(9)} == {scale.trial}


def test_num_gpus_is_the_number_of_workers_unless_another_is_asked_for():
    assert choose(machine(8, told=True), "full")[0].resources.workers == 8
    assert choose(machine(8, told=True), "full", gpus=2)[0].resources.workers == 2
    assert choose(machine(0, told=True), "full")[0].resources.workers == 4
    assert choose(machine(8, told=True), "pocket")[0].resources == POCKET.resources


def test_a_worker_has_its_gpus_and_its_cpus_of_one_node():
    apart = cluster((0, 64), (4, 1))
    assert SMALL.resources.on(apart).concurrent_trials == 1  # refused by whoever starts it
    half = cluster((4, 32), (4, 8))
    assert half.groups(1) == 8
    assert half.room(1, 4) == 6
    small, full = SMALL.resources.on(half), FULL.resources.on(half)
    assert (small.concurrent_trials, small.replicas, small.ahead) == (6, 8, 0)
    assert (full.workers, full.concurrent_trials, full.replicas, full.ahead) == (4, 1, 8, 0)
    assert FULL.resources.on(cluster((4, 8), (0, 64))).workers == 2
    with pytest.raises(ValueError, match="at most 6 run at once"):
        SMALL.resources.on(half, concurrent=7)


@given(nodes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 70)), min_size=1, max_size=5), each=st.integers(1, 4))
def test_as_many_workers_find_room_as_can_be_put_on_nodes_one_by_one(nodes, each):
    there, count = [list(node) for node in nodes], 0
    while fitting := next((node for node in there if node[0] >= each and node[1] >= 4), None):
        fitting[0], fitting[1], count = fitting[0] - each, fitting[1] - 4, count + 1
    assert cluster(*nodes).room(each, 4) == count


def test_what_was_chosen_is_said_with_why():
    assert choose(cluster((8, CPUS)), None)[1] == (
        "scale full (what the cluster can carry; 8 GPU(s) on the cluster): "
        "4 worker(s) a trial, 2 trial(s) at once, 8 replica(s)"
    )
    assert choose(machine(2), "full")[1] == (
        "scale full (asked for; 2 GPU(s) here): 2 worker(s) a trial of 4, for want of GPUs, 1 trial(s) at once, 2 replica(s)"
    )
    assert "2 worker(s) a trial of 4, for want of CPUs, 1 trial(s)" in choose(machine(4, cpus=8.5), "full")[1]
    assert (
        "2 worker(s) a trial (--gpus), 3 trial(s) at once (--concurrent)" in choose(machine(8), None, gpus=2, concurrent=3)[1]
    )
    assert "what --gpus 2 can carry" in choose(machine(8), None, gpus=2)[1]
    assert "8 worker(s) a trial (NUM_GPUS), 1 trial(s) at once" in choose(machine(8, told=True), None)[1]


@pytest.mark.parametrize(
    ("machine_", "asked", "workers", "at_once", "replicas"),
    [
        (machine(8), dict(gpus_per_model=2), 4, 1, 4),
        (machine(8), dict(gpus_per_model=4), 2, 1, 2),
        (machine(8), dict(gpus_per_model=4, gpus=4), 1, 2, 2),
        (machine(8, told=True), dict(gpus_per_model=2), 4, 1, 4),
        (machine(3), dict(gpus_per_model=2), 1, 1, 1),
        (machine(1), dict(gpus_per_model=2), 4, 1, 1),  # refused by whoever starts it
        (cluster((3, 32), (3, 32)), dict(gpus_per_model=2), 2, 1, 2),
    ],
)
def test_a_worker_and_a_replica_have_the_gpus_that_a_model_lies_over(machine_, asked, workers, at_once, replicas):
    scale, why = choose(machine_, "full", **asked)
    found = scale.resources
    assert (found.workers, found.concurrent_trials, found.replicas) == (workers, at_once, replicas)
    assert found.gpus == workers * asked["gpus_per_model"]
    assert f"a model over {asked['gpus_per_model']} GPUs" in why


def test_gpus_that_workers_cannot_share_are_refused():
    with pytest.raises(ValueError, match=r"6 GPU\(s\) cannot be shared by workers that have 4 each .*; type --gpus 4"):
        choose(machine(8), "full", gpus=6, gpus_per_model=4)
    with pytest.raises(ValueError, match="--gpus-per-model 2: scale pocket uses none"):
        choose(machine(8), "pocket", gpus_per_model=2)
    with pytest.raises(ValueError, match="--gpus-per-model must be at least 1"):
        choose(machine(8), "full", gpus_per_model=0)
