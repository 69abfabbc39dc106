"""The machines of a cluster: where each replica works, and whether each has what the trials read.

Ray gives the training workers their GPUs: Train makes a placement group of its own for each trial, packed on as few nodes as
it fits on, and takes no bundles of another's. A replica shares its GPU with whatever worker is there. As a bundle it would
take that GPU away from the workers, and half a GPU asked of Ray twice is two halves of one. So a replica asks for no GPU, is
bound to a node, and takes a GPU of that node by its number there. One whose node is lost does not come back: others answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybridge.analysis.sweeps import changes
from raybridge.config import packages_of, rebuild
from raybridge.models import names
from raybridge.models.identity import model_identity
from raybridge.results import Results
from raybridge.scales import Node, Resources
from raybridge.training.worker import engine_of
from raybridge.trial import Workload


@dataclass(frozen=True)
class Place:
    """Where a replica works. index: of the node's GPUs, or groups of them; on CPUs of its replicas."""

    node: Node
    index: int

    def devices(self, gpus_per_model: int) -> list[str]:
        """As torch calls them: the GPUs over which its models lie, those of no other replica; or the CPU."""
        first = self.index * gpus_per_model
        return [f"cuda:{number}" for number in range(first, first + gpus_per_model)] or ["cpu"]


def alive() -> list[Node]:
    """The nodes of the connected cluster, by their names."""
    found = [
        Node(
            id=one["NodeID"],
            name=one["NodeName"],
            gpus=int(one["Resources"].get("GPU", 0)),
            cpus=one["Resources"].get("CPU", 0.0),
        )
        for one in ray.nodes()
        if one["Alive"]
    ]
    return sorted(found, key=lambda node: (node.name, node.id))


def hosts(nodes: Sequence[Node], resources: Resources) -> list[Node]:
    """The nodes that a worker or a replica may come to: a head may be there that has no GPU, or does no work."""
    needed = resources.gpus_per_model
    return [node for node in nodes if (node.gpus >= needed if needed else node.cpus)]


def places(nodes: Sequence[Node], replicas: int, *, gpus_per_model: int) -> list[Place]:
    """Where so many replicas work, the nodes in turn. On GPUs no two share one; ValueError where there are too few."""
    room = [node.gpus // gpus_per_model if gpus_per_model else replicas for node in nodes]
    if replicas > sum(room):
        there = ", ".join(f"{node.name} has {node.gpus}" for node in nodes) or "the cluster has none"
        each = "a GPU" if gpus_per_model == 1 else f"{gpus_per_model} GPUs of one node"
        more = f"type --gpus {sum(room) * gpus_per_model}, or wait for more nodes"
        raise ValueError(f"{replicas} replicas need {each} each: {there}; {more}")
    in_turn = [
        Place(node, index)
        for index in range(max(room, default=0))
        for node, most in zip(nodes, room, strict=True)
        if index < most
    ]
    return in_turn[:replicas]


def bound(node: Node) -> NodeAffinitySchedulingStrategy:
    """To run on a node and nowhere else; what is bound softly comes to the node that starts it, whichever was named."""
    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def check_nodes(trials: Sequence[Workload], *, results: Results, resources: Resources) -> None:
    """Refuse a node that lacks what the trials read, or has other contents under a name: a task looks on each, at once.

    Not on this one, where somebody has looked before the trials were planned.
    """
    plain = [trial.resolved() for trial in trials]
    packages = sorted({package for trial in trials for package in packages_of(trial)})
    _look(lack, plain, packages, results.root.resolve(), resources, nodes=hosts(alive(), resources))


def check_models(models: Iterable[str], *, resources: Resources) -> None:
    """Refuse a node that lacks one of these models, or has another under its name, where a replica comes to."""
    where = places(hosts(alive(), resources), resources.replicas, gpus_per_model=resources.gpus_per_model)
    _look(lack_of_models, {name: model_identity(name).weights for name in models}, nodes=[place.node for place in where])


def _look(lacks: Callable[..., str | None], *told: Any, nodes: Iterable[Node]) -> None:
    """Raise what nodes lack, by their names; this one needs no look."""
    others = [node for node in dict.fromkeys(nodes) if node.id != ray.get_runtime_context().get_node_id()]
    look = ray.remote(num_cpus=0, max_retries=0)(lacks)
    asked = [look.options(scheduling_strategy=bound(node)).remote(*told) for node in others]
    if said := [f"node {node.name}: {why}" for node, why in zip(others, ray.get(asked), strict=True) if why]:
        raise ValueError("; ".join(said))


def lack_of_models(told: Mapping[str, str]) -> str | None:
    """What this machine lacks of models, by the digests of their weights, in a sentence; None for nothing."""
    try:
        for name, weights in told.items():
            names.check(name)
            if model_identity(name).weights != weights:
                return f"model {name!r} has other weights than where the command was typed"
    except ValueError as error:
        return str(error)
    return None


def lack(experiments: Sequence[dict[str, Any]], packages: Sequence[str], results: Path, resources: Resources) -> str | None:
    """What this machine lacks of what experiments read and of where their results go, in a sentence; None for nothing.

    experiments: resolved, with the contents that the launcher has. What can be fetched is not lacking.
    """
    if not results.is_dir():
        return f"there is no folder {results}; results must be in one that the machines of all workers share"
    try:
        for told in experiments:
            experiment: Workload = rebuild(told, packages)
            engine = engine_of(experiment)
            here = engine.sealed(experiment, device=resources.device)
            for name in experiment.models:
                names.check(name)
            engine.check(experiment, workers=resources.workers)
            if here.fingerprint != experiment.fingerprint:
                fields = ", ".join(changes(experiment.resolved(), here.resolved())["field"])
                return f"what {experiment.name} reads is not what the command has read: {fields}"
    except ValueError as error:
        return str(error)
    return None
