"""Has Ray start processes for workers that are not asked for yet, for which it has no public way: it knows the inside of Ray.

A process that has run a task becomes no actor's, and one that ran without a GPU none with: so tasks cannot warm them. What a
raylet starts ahead of all requests (its own `PrestartWorkers`) becomes whatever is asked for first in its environment.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import grpc
import ray
from ray._private import ray_constants
from ray._private.grpc_utils import init_grpc_channel
from ray._private.worker import global_worker
from ray.core.generated.common_pb2 import PYTHON
from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

HOOK = ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR  # names what a process calls before it waits for work
LONGEST = 30 * 24 * 3600  # seconds that a process waits to be a worker; all of a command's end with it
PATIENCE = 10.0  # seconds that a raylet has to answer

log = logging.getLogger(__name__)


class Prestarted(WorkerGroupCallback):
    """Has the processes of a trial's workers started while its devices are waited for. It runs in Train's controller.

    spares: how many of each node, by its id. environment: the workers' own, as Train is told it.
    """

    def __init__(self, spares: Mapping[str, int], environment: Mapping[str, Any]) -> None:
        self.spares, self.environment = dict(spares), dict(environment)

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Ask each node for its processes, once: workers that are started again find their devices free."""
        wanted, self.spares = self.spares, {}
        of_workers = merged(ray.get_runtime_context().runtime_env, WorkerGroup._get_worker_runtime_env(self.environment))
        for node in ray.nodes():
            if count := wanted.get(node["NodeID"]):
                address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
                try:
                    prestart(address, count, of_workers)
                except grpc.RpcError as error:  # its workers start when their devices are there, as without
                    log.warning("no processes are started ahead on node %s: %s", node["NodeName"], error)


def merged(parent: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The environment of what a process starts, of its own and what it says of the other's, as Ray writes it."""
    if not parent:
        return json.dumps(own, sort_keys=True)
    variables = {**parent.get("env_vars", {}), **own.get("env_vars", {})}
    return json.dumps({**parent, **own, "env_vars": variables}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def prestart(address: str, count: int, environment: str) -> None:
    """Have the raylet at an address start processes that take the first work of this job in an environment.

    Ray compares environments as text: another spelling of the same is another.
    """
    request = PrestartWorkersRequest(
        language=PYTHON,
        job_id=global_worker.current_job_id.binary(),
        keep_alive_duration_secs=LONGEST,
        num_workers=count,
    )
    request.runtime_env_info.serialized_runtime_env = environment
    with init_grpc_channel(address) as channel:
        NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=PATIENCE)
