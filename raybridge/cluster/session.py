"""A Ray cluster to run on: this machine's own, or the one that RAY_ADDRESS names."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from raybridge import HOUSE
from raybridge.scales import Resources

NAMESPACE = "raybridge"
NOT_SENT = [".venv", ".git", "ray_results"]  # of the house, to the machines of an existing cluster
SPARE_CPUS = 0.1  # the Tune trials' own drivers


def shortfall(resources: Resources, there: Mapping[str, float]) -> str | None:
    """What a cluster lacks for one trial and the replicas, with what was asked, what there is and what to type."""
    gpus = resources.workers * resources.gpus_per_worker
    cpus = resources.workers * resources.cpus_per_worker + SPARE_CPUS
    have_gpus, have_cpus = there.get("GPU", 0.0), there.get("CPU", 0.0)
    asked = f"a trial asks for {resources.workers} worker(s) with {gpus} GPU(s) and {cpus:g} CPU(s) in all"
    has = f"the cluster has {have_gpus:g} GPU(s) and {have_cpus:g} CPU(s)"
    if gpus > have_gpus:
        advice = f"--gpus {int(have_gpus)}" if have_gpus else "--scale pocket, which needs none"
        return f"{asked}; {has}; type {advice}, or set NUM_GPUS if there are more"
    if cpus > have_cpus:
        return f"{asked}; {has}; run it on a machine with more cores, or with fewer workers"
    return None


def gpus_there() -> int:
    """GPUs to run on: what NUM_GPUS says, else those of the cluster that RAY_ADDRESS names, else those of this machine."""
    told = os.environ.get("NUM_GPUS")
    if told is not None:
        if not told.isdigit():
            raise ValueError(f"NUM_GPUS={told!r} is not a number of GPUs (0, 1, 2, ...)")
        return int(told)
    if os.environ.get("RAY_ADDRESS"):
        with connected():
            return int(ray.cluster_resources().get("GPU", 0))
    import torch  # only where nothing else answers

    return torch.cuda.device_count()


def knock(address: str) -> None:
    """Raise ConnectionError where nothing listens: ray.init would try for minutes and say nothing."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():  # auto, local: Ray finds its own and answers at once
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(address) from error


@contextmanager
def connected(**options: Any) -> Iterator[Any]:
    """Connect to the cluster that RAY_ADDRESS names, or start one here; disconnect, or end it, on the way out."""
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            knock(address)
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, namespace=NAMESPACE, **options)
    except ConnectionError as error:
        raise ValueError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; start one with 'ray start --head', "
            "correct the address (host:port, or auto on a machine of the cluster), or unset it"
        ) from error
    try:
        yield context
    finally:
        ray.shutdown()


@contextmanager
def cluster(resources: Resources) -> Iterator[str]:
    """A connected cluster that can run `resources`, ended on the way out if it was started here; yields the dashboard's URL."""
    options: dict[str, Any]
    if os.environ.get("RAY_ADDRESS"):
        options = {"runtime_env": {"working_dir": str(HOUSE), "excludes": NOT_SENT}}
    else:
        gpus = gpus_there()
        refuse(shortfall(resources, {"GPU": gpus, "CPU": os.cpu_count() or 1}))  # at once, before anything is started
        # A dashboard stays on: Train asks it before it gives a stopped trial's resources back.
        options = {"num_gpus": gpus, "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # why a trial failed is said once, by the command
    with connected(**options) as context:
        refuse(shortfall(resources, ray.cluster_resources()))
        yield f"http://{context.dashboard_url}" if context.dashboard_url else "off"


def refuse(lacking: str | None) -> None:
    """End here if something is lacking."""
    if lacking:
        raise ValueError(lacking)
