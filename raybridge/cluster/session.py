"""A Ray cluster to run on: this machine's own, or the one that RAY_ADDRESS names."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

import raybridge
from raybridge import HOUSE
from raybridge.cluster.failures import AGAIN, last_line, why_lost
from raybridge.cluster.imports import MODELS, import_all
from raybridge.cluster.machine import gpus_told, here, unusable
from raybridge.cluster.naming import job, way_in
from raybridge.cluster.nodes import alive
from raybridge.console import FAILURE
from raybridge.data import HERE
from raybridge.data.origin import revisions_to_tell
from raybridge.errors import reason_of
from raybridge.evaluation.provenance import commit_to_tell
from raybridge.scales import Machine, Resources

NAMESPACE = "raybridge"
# Of the house, to the machines of an existing cluster: nothing hidden is code, and no worker reads docs. ".*" would be the
# house itself, which is ".".
NOT_SENT = [".[!.]*", "ray_results", "/docs", "/tests"]
# What travels to workers: what raybridge is told, as it was written, for `from_here` reads it; how the hub is reached; its
# folders, made absolute, for huggingface_hub knows of no such place; the commit, for code that is sent has no history; and at
# which revisions the hub's datasets are read.
TOLD = ("RAYBRIDGE_DATA", "RAYBRIDGE_MODELS", "HF_ENDPOINT", "HF_HUB_OFFLINE", MODELS)
FOLDERS = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE")
SECRET = "HF_TOKEN"
# Two processes share a card to the last GiB: pieces of memory that are too small to be used must be few.
ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
EVERY = 5.0  # seconds between two looks at whether the cluster is still there
NO_GPU = "--scale pocket, which needs none"
PATIENCE = 40.0  # seconds that it may be away: a head that is started again takes some; Ray gives up after 60
REPLACED = 180.0  # seconds in which a machine of it that is gone may come back


def shortfall(resources: Resources, machine: Machine) -> str | None:
    """What a machine lacks for one trial, with what was asked, what there is and what to type."""
    asked = f"a trial asks for {resources.workers} worker(s) with {resources.gpus} GPU(s) and {resources.cpus:g} CPU(s) in all"
    has = f"the cluster has {machine.gpus} GPU(s) and {machine.cpus:g} CPU(s)"
    each = resources.gpus_per_model
    if each and resources.workers > machine.groups(each):
        most = machine.groups(each) * each
        advice = f"--gpus {most}" if most else f"--gpus-per-model {machine.gpus}" if machine.gpus else NO_GPU
        return f"{asked}; {has}; type {advice}, or set NUM_GPUS if there are more"
    if resources.cpus > machine.cpus:
        return f"{asked}; {has}; run it on a machine with more cores, or with fewer workers"
    cpus = resources.cpus_per_worker
    room = machine.room(each, cpus)
    if resources.workers > room:  # enough in all, and not on nodes that have both
        nodes = ", ".join(f"{node.name} has {node.gpus} GPU(s) and {node.cpus:g} CPU(s)" for node in machine.nodes)
        fewer = f"type --gpus {room * each}, or " if room and each else ""
        return (
            f"a trial asks for {resources.workers} worker(s), each with {each} GPU(s) and {cpus:g} CPU(s) of one node; there "
            f"is room for {room}: {nodes}; {fewer}start nodes with more (ray start --num-gpus, --num-cpus)"
        )
    return None


def without_cuda(resources: Resources, machine: Machine) -> str | None:
    """Why workers on GPUs would die here, after minutes: NUM_GPUS is believed, as for a plan made elsewhere."""
    if not resources.gpus_per_model or not (why := unusable(machine.gpus)):
        return None
    return (
        f"{machine.gpus} GPU(s) are told, and on this machine {why}; set RAY_ADDRESS to a cluster that has GPUs, use "
        "none (a sweep: --scale pocket), or only plan (--dry-run)"
    )


def there() -> Machine:
    """What a launch would run on: the cluster that RAY_ADDRESS names, or this machine. NUM_GPUS goes before what is found."""
    if not os.environ.get("RAY_ADDRESS"):
        return here()
    told = gpus_told()
    with connected():
        found = of_cluster()
    return found if told is None else replace(found, gpus=told, told=True)


def of_cluster() -> Machine:
    """What the connected cluster has."""
    found = ray.cluster_resources()
    return Machine(gpus=int(found.get("GPU", 0)), cpus=found.get("CPU", 0.0), cluster=True, nodes=tuple(alive()))


def knock(address: str) -> None:
    """Raise ConnectionError where nothing listens: ray.init would try for minutes and say nothing."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():  # auto, local: Ray finds its own and answers at once
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()  # brackets: of an IPv6 address
    except OSError as error:
        raise ConnectionError(address) from error


def travelling(models: Sequence[str] = ()) -> dict[str, str]:
    """The part of this process's environment that its workers need, who stand elsewhere. Nothing secret: Ray logs it.

    models: that workers will ask for, of which they read what they can while they wait for devices.
    """
    wanted = {MODELS: json.dumps(sorted(models))} if models else {}
    there = {name: os.environ[name] for name in TOLD if name in os.environ}
    folders = {name: str(Path(os.environ[name]).expanduser().absolute()) for name in FOLDERS if os.environ.get(name)}
    allocator = {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
    return {
        HERE: str(Path(os.environ.get(HERE, ".")).absolute()),
        **there,
        **wanted,
        **folders,
        **allocator,
        **commit_to_tell(),
        **revisions_to_tell(),
    }


def telling(secret: str) -> Callable[[], None]:
    """What processes of an existing cluster do first: they learn the token. A function travels in memory, and is not logged."""

    def tell() -> None:
        os.environ.setdefault(SECRET, secret)
        import_all()  # there is one such function a process

    return tell


def shipped(models: Sequence[str] = ()) -> dict[str, Any]:
    """This code and environment for the workers of an existing cluster, in Ray's words."""
    package = Path(raybridge.__file__).parent
    code: dict[str, Any] = {"working_dir": str(HOUSE), "excludes": NOT_SENT}
    if HOUSE.is_relative_to(package):  # installed: the package carries the house, and no clone carries the package
        code = {"py_modules": [str(package)]}
    secret = os.environ.get(SECRET)
    return {**code, "env_vars": travelling(models), **({"worker_process_setup_hook": telling(secret)} if secret else {})}


@contextmanager
def inherited(models: Sequence[str] = ()) -> Iterator[None]:
    """The workers of a cluster that is started here have this process's environment, and stand elsewhere."""
    before = dict(os.environ)
    os.environ.update(travelling(models))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def connected(*, models: Sequence[str] = (), **options: Any) -> Iterator[Any]:
    """Connect to the cluster that RAY_ADDRESS names, or start one here; disconnect, or end it, on the way out."""
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            knock(address)
        with inherited(models):  # local: our own, also where somebody's `ray start` runs on this machine
            context = ray.init(
                address or "local", log_to_driver=False, logging_level=logging.ERROR, namespace=NAMESPACE, **options
            )
    except ConnectionError as error:
        raise ValueError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; start one with 'ray start --head', "
            "correct the address (host:port, [host]:port for IPv6, or auto on a machine of the cluster), or unset it"
        ) from error
    except Exception as error:
        if type(error) is not Exception:  # Ray raises bare ones where a process of its own ends as it starts
            raise
        raise RuntimeError(f"Ray did not start; {AGAIN} (Ray: {reason_of(error)})") from error
    try:
        yield context
    except RayError as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError  # the error of a task is one of its cause, too
        told = f"{type(error).__name__}\n{error}"
        raise kind(why_lost(told) or f"Ray: {last_line(told)}") from error
    finally:
        ray.shutdown()


@contextmanager
def watched(resources: Resources) -> Iterator[None]:
    """End the command with a sentence once the connected cluster is lost, for Ray says none that tells what to do.

    Without its head Ray ends this process after a minute; without this machine's part of it calls wait for ever, and so do
    trials where what is left of it no longer has what one of them asks for.
    """
    context, over = ray.get_runtime_context(), threading.Event()
    head, node = context.gcs_address, context.get_node_id()

    def watch(look: Callable[[], str | None], patience: float) -> None:
        if why := loss(look, over, patience=patience):
            print(f"error {why}; {AGAIN}", file=sys.__stderr__, flush=True)
            os._exit(FAILURE)  # the main thread may be in a call of Ray that does not come back

    looks = ((partial(lost_now, head, node), PATIENCE), (partial(short_now, head, node, resources), REPLACED))
    for look, patience in looks:
        threading.Thread(target=watch, args=(look, patience), name="cluster watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def loss(look: Callable[[], str | None], over: threading.Event, *, patience: float) -> str | None:
    """What `look` says, once it has said something long enough; None when it is over before."""
    since: float | None = None
    while not over.wait(EVERY):
        why = look()
        since = (since or time.monotonic()) if why else None
        if why and since and time.monotonic() - since >= patience:
            return why
    return None


def lost_now(head: str, node: str) -> str | None:
    """What of a cluster does not answer: its head, or the node through which this process takes part in it."""
    try:
        knock(head)
    except ConnectionError:
        return f"the head of the Ray cluster ({head}) does not answer"
    if any(one["NodeID"] == node and not one["Alive"] for one in ray.nodes()):
        return "this machine's part of the Ray cluster (its raylet) was lost"
    return None


def short_now(head: str, node: str, resources: Resources) -> str | None:
    """What a cluster lacks for a trial; None of one that is lost, for Ray cannot say then what it has."""
    return None if lost_now(head, node) else shortfall(resources, of_cluster())


@contextmanager
def cluster(resources: Resources, *, name: str, models: Sequence[str] = ()) -> Iterator[str]:
    """A connected cluster that can run `resources`, ended on the way out if it was started here.

    Yields the dashboard's URL and how to get in. name: what its page of jobs calls this command. models:
    see `travelling`.
    """
    options: dict[str, Any]
    if os.environ.get("RAY_ADDRESS"):
        options = {"runtime_env": shipped(models)}
    else:
        machine = here()
        refuse(shortfall(resources, machine) or without_cuda(resources, machine))  # at once, before anything is started
        # A dashboard stays on: Train asks it before it gives a stopped trial's resources back.
        options = {"num_gpus": machine.gpus, "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # why a trial failed is said once, by the command
    with connected(models=models, **options, job_config=job(name)) as context:
        refuse(shortfall(resources, of_cluster()))
        with watched(resources):
            yield way_in(f"http://{context.dashboard_url}") if context.dashboard_url else "off"


def refuse(lacking: str | None) -> None:
    """End here if something is lacking."""
    if lacking:
        raise ValueError(lacking)
