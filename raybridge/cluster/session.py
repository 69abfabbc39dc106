"""A Ray cluster to run on: this machine's own, or the one that RAY_ADDRESS names."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray

from raybridge.scales import Resources

NAMESPACE = "raybridge"
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


def gpus_here() -> int:
    """GPUs of this machine: what NUM_GPUS says, else what torch sees."""
    told = os.environ.get("NUM_GPUS")
    if told is not None:
        if not told.isdigit():
            raise ValueError(f"NUM_GPUS={told!r} is not a number of GPUs (0, 1, 2, ...)")
        return int(told)
    import torch  # only where NUM_GPUS does not answer

    return torch.cuda.device_count()


@contextmanager
def cluster(resources: Resources) -> Iterator[str]:
    """A connected cluster that can run `resources`, ended on the way out if it was started here; yields the dashboard's URL."""
    existing = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": NAMESPACE}
    if existing:
        root = str(Path(__file__).parents[2])
        context = ray.init(
            address=existing, runtime_env={"working_dir": root, "excludes": [".venv", ".git", "ray_results"]}, **quiet
        )
    else:
        # A dashboard stays on: Train asks it before it gives a stopped trial's resources back.
        context = ray.init(num_gpus=gpus_here(), include_dashboard=True, dashboard_host="127.0.0.1", **quiet)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # why a trial failed is said once, by the command
    try:
        lacking = shortfall(resources, ray.cluster_resources())
        if lacking:
            raise ValueError(lacking)
        yield f"http://{context.dashboard_url}" if context.dashboard_url else "off"
    finally:
        ray.shutdown()
