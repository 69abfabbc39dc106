"""Processes that wait to be a trial's workers and have imported and read what these do, so that a device waits for neither.

A trial that waits for devices has them started; where these are there Ray makes workers of them. So how many are started, and
where, must be known before: none is started where Ray has a choice of nodes, and some would be left over at every trial.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from raybridge.cluster.imports import ENGINE, import_all
from raybridge.cluster.nodes import Node, alive, hosts
from raybridge.scales import Resources

CORES = 2  # for each worker, at least: one computes while the next one imports

log = logging.getLogger(__name__)


def spares(nodes: Sequence[Node], resources: Resources) -> dict[str, int]:
    """How many processes of each node, by its id, will be the workers of a trial; none where no devices are waited for.

    nodes: those that a worker may come to.
    """
    if not resources.ahead:
        return {}
    each = resources.gpus_per_model
    groups = {node.id: node.gpus // each if each else resources.workers for node in nodes}
    if len(nodes) > 1 and sum(groups.values()) != resources.workers:
        return {}
    spare = {node: min(resources.workers, count) for node, count in groups.items()}
    return spare if all(node.cpus >= CORES * spare[node.id] for node in nodes) else {}


def started_ahead(engine: str, resources: Resources) -> tuple[dict[str, Any], list[Any]]:
    """What has Train start them: the environment of all workers of an engine, in Ray's words, and callbacks.

    Neither where none are spared, nor, and that is logged, under a Ray whose inside is another. A trial that finds its devices
    free may have some left over, which the next one takes.
    """
    spare = spares(hosts(alive(), resources), resources)
    if not spare:
        return {}, []
    try:
        from raybridge.cluster.prestarted import HOOK, Prestarted
    except ImportError as error:
        log.warning("no processes are started ahead of their devices, for this Ray has another inside (%s)", error)
        return {}, []
    # A launch that has every process call something first has that import as well (`session.telling`).
    first = {} if HOOK in os.environ else {HOOK: f"{import_all.__module__}.{import_all.__name__}"}
    environment = {"env_vars": {ENGINE: engine, **first}}
    return environment, [Prestarted(spare, environment)]
