"""That Ray puts what is asked of it where the command counts on it, and that what no node can hold is not waited for."""

from __future__ import annotations

import pytest
import ray
from ray.util import placement_group

from raybridge.cluster import session
from raybridge.scales import DRIVER_CPUS, FULL, SMALL, Machine


@pytest.fixture
def gpus_apart_from_cpus(monkeypatch):
    """A cluster that was there before, whose head has the CPUs and whose other node has the GPU."""
    from ray.cluster_utils import Cluster

    head = dict(num_cpus=4, num_gpus=0, include_dashboard=False, node_name="head")
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, num_gpus=1, node_name="other")
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield
    cluster.shutdown()


@pytest.mark.cluster
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")  # Ray's own: unclosed sockets and files, and what it deprecates of itself
def test_a_worker_that_no_node_can_hold_is_refused(gpus_apart_from_cpus):
    asked = SMALL.resources.on(session.there())
    with (
        pytest.raises(ValueError, match=r"there is room for 0: head has 0 .* 4 CPU\(s\), other has 1 GPU\(s\) and 1 CPU"),
        session.cluster(asked, name="test"),
    ):
        pytest.fail("it would wait for ever")


@pytest.mark.cluster
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scale", [SMALL, FULL], ids=lambda scale: scale.name)
def test_ray_puts_all_trials_at_once_and_the_drivers_ahead_where_cores_divide_exactly(scale):
    """What Tune asks for a driver and Train for a trial's workers, whole trials after all drivers."""
    found = scale.resources.on(Machine(gpus=8, cpus=32))
    worker = {"CPU": found.cpus_per_worker, "GPU": found.gpus_per_model}
    asked = [[{"CPU": DRIVER_CPUS}]] * (found.concurrent_trials + found.ahead)
    asked += [[worker] * found.workers] * found.concurrent_trials
    ray.init("local", num_cpus=32, num_gpus=8, include_dashboard=False, log_to_driver=False)
    try:
        assert all(group.wait(30) for group in [placement_group(bundles) for bundles in asked])
        assert ray.available_resources().get("GPU", 0) == 0
    finally:
        ray.shutdown()
