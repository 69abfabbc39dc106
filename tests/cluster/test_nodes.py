"""Where replicas work on a cluster of several machines, and what is said of a machine that lacks something."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from asking import requests_of
from hypothesis import given
from hypothesis import strategies as st

from raybridge.cluster.nodes import Node, Place, check_models, check_nodes, hosts, lack, lack_of_models, places
from raybridge.config import packages_of
from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.models.identity import model_identity
from raybridge.results import Results
from raybridge.scales import POCKET, SMALL
from raybridge.training.workload import sealed

TWO = replace(POCKET.resources, replicas=2)


def node(name: str, gpus: int = 0, cpus: float = 1) -> Node:
    return Node(id=f"id of {name}", name=name, gpus=gpus, cpus=cpus)


def test_one_machine_has_a_replica_on_each_gpu():
    alone = node("a", 4)
    assert places([alone], 4, gpus_per_model=1) == [Place(alone, index) for index in range(4)]


def test_nodes_take_replicas_in_turn_as_far_as_each_has_gpus():
    one, two, three = node("a", 1), node("b", 3), node("c", 2)
    found = places([one, two, three], 6, gpus_per_model=1)
    assert [(place.node.name, place.index) for place in found] == [
        *(("a", 0), ("b", 0), ("c", 0), ("b", 1), ("c", 1), ("b", 2))
    ]
    assert places([one, two, three], 2, gpus_per_model=1) == found[:2]


def test_more_replicas_than_gpus_are_refused_by_what_each_node_has():
    with pytest.raises(ValueError, match="4 replicas need a GPU each: a has 1, b has 2; type --gpus 3, or wait for more nodes"):
        places([node("a", 1), node("b", 2)], 4, gpus_per_model=1)
    with pytest.raises(ValueError, match="the cluster has none"):
        places([], 1, gpus_per_model=1)


@given(gpus=st.lists(st.integers(0, 8), min_size=1, max_size=6), share=st.floats(0, 1))
def test_no_gpu_has_two_replicas_and_none_is_of_a_number_that_its_node_lacks(gpus, share):
    nodes = [node(str(number), count) for number, count in enumerate(gpus)]
    found = places(nodes, int(share * sum(gpus)), gpus_per_model=1)
    assert len(set(found)) == len(found) == int(share * sum(gpus))
    assert all(place.index < place.node.gpus for place in found)


@given(count=st.integers(1, 5), replicas=st.integers(0, 20))
def test_on_cpus_nodes_have_as_many_replicas_as_each_other(count, replicas):
    found = places([node(str(number)) for number in range(count)], replicas, gpus_per_model=0)
    each = Counter(place.node.name for place in found)
    assert each.total() == replicas
    assert max(each.values(), default=0) - (min(each.values()) if len(each) == count else 0) <= 1


def test_a_head_that_has_no_gpu_or_does_no_work_has_no_replica():
    head, worker = node("head", 0, 0), node("worker", 2, 8)
    assert hosts([head, worker], SMALL.resources) == hosts([head, worker], POCKET.resources) == [worker]
    assert hosts([node("head", 0, 8), worker], SMALL.resources) == [worker]


def test_a_machine_says_which_model_it_lacks_or_has_another_of():
    whole = {name: model_identity(name).weights for name in ("pocket:source", "pocket:target")}
    assert lack_of_models(whole) is None
    assert "'pocket:target' has other weights" in lack_of_models(whole | {"pocket:target": whole["pocket:source"]})
    assert "./mine" in lack_of_models({"./mine": ""})


def test_a_machine_says_what_it_lacks(trial, tmp_path):
    whole = sealed(trial, device="cpu")

    def told(asked, results: Path = tmp_path) -> str | None:
        return lack([asked.resolved()], packages_of(asked), results, POCKET.resources)

    assert told(whole) is None
    assert "in one that the machines of all workers share" in told(whole, tmp_path / "elsewhere")
    assert "unknown model './mine'" in told(replace(whole, source="./mine"))
    source = replace(whole.contents.source, weights="0" * 64)
    other = replace(whole, contents=replace(whole.contents, source=source))
    assert told(other) == "what tiny reads is not what the command has read: contents.source.weights"


@pytest.fixture
def two_nodes(tmp_path, monkeypatch):
    """A cluster of two nodes that was there before; homes of their own, of which the first alone has data."""
    from ray.cluster_utils import Cluster

    homes = {name: tmp_path / name for name in ("one", "two")}
    for home in homes.values():
        home.mkdir()
    (homes["one"] / "data").mkdir()
    monkeypatch.setenv("HOME", str(homes["one"]))
    monkeypatch.setenv("RAYBRIDGE_DATA", "~/data")
    head = dict(num_cpus=1, num_gpus=0, include_dashboard=False, node_name="one")
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, num_gpus=0, node_name="two", env_vars={"HOME": str(homes["two"])})
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield
    cluster.shutdown()


@pytest.mark.cluster
@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("ignore")  # Ray's own: unclosed sockets and files, and what it deprecates of itself
def test_two_nodes_answer_as_one_does_and_the_one_without_data_is_named(two_nodes, trial, weights, tmp_path):
    import ray

    from raybridge.cluster.nodes import alive
    from raybridge.cluster.replicas import ReplicaPool, names_of, start_replicas
    from raybridge.cluster.session import cluster

    requests = requests_of(trial, "dev", "bridged", size=2)
    with cluster(TWO, name="test"):
        pool = ReplicaPool(start_replicas(names_of(2, launch="test"), TWO))
        rows = pool.start(requests, weights).result()
        where = ray.get(
            [one.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id()) for one in pool.replicas]
        )
        assert where == [node.id for node in alive()]
        with pytest.raises(ValueError, match=r"^node two: RAYBRIDGE_DATA='~/data' is not a folder$"):
            check_nodes([sealed(trial, device="cpu")], results=Results(tmp_path), resources=TWO)
        check_models(trial.models, resources=TWO)
    models = Models("cpu")
    alone = [row for request in requests for row in answer(request, models, weights)]
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in alone]


@given(gpus=st.lists(st.integers(0, 9), min_size=1, max_size=4), each=st.integers(1, 4))
def test_a_replica_of_several_gpus_has_them_to_itself_and_of_one_node(gpus, each):
    nodes = [node(str(number), count) for number, count in enumerate(gpus)]
    found = places(nodes, sum(count // each for count in gpus), gpus_per_model=each)
    held = [(place.node.name, device) for place in found for device in place.devices(each)]
    assert len(set(held)) == len(held) == each * len(found)
    assert all(int(device.removeprefix("cuda:")) < gpus[int(name)] for name, device in held)


def test_on_cpus_a_replica_has_the_cpu():
    assert Place(node("a"), 3).devices(0) == ["cpu"]


def test_too_few_gpus_of_one_node_are_told():
    with pytest.raises(ValueError, match="2 replicas need 2 GPUs of one node each: a has 3; type --gpus 2, or wait"):
        places([node("a", 3)], 2, gpus_per_model=2)
    assert hosts([node("a", 1), node("b", 2)], replace(SMALL.resources, gpus_per_model=2)) == [node("b", 2)]
