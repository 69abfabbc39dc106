"""What the device can do at most, measured: how fast it copies and how fast it multiplies. And the head of a report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import torch

from bench.turns import release, synchronise
from raybridge.evaluation.provenance import commit
from raybridge.models.lm import precision

PACKAGES = ("torch", "transformers", "ray")
TIMES = 5  # timings that a rate is the median of
CALLS = {"cuda": 10, "cpu": 2}  # of a timing
COPIED = {"cuda": 2**30, "cpu": 2**26}  # bytes of a tensor, more than any cache holds
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices that are multiplied


def here() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def copy_rate(device: torch.device) -> float:
    """Bytes read and written a second."""
    tensor = torch.zeros(COPIED[device.type], dtype=torch.uint8, device=device)
    other = torch.empty_like(tensor)
    return 2 * tensor.nbytes / _second(lambda: other.copy_(tensor), device)


def product_rate(device: torch.device) -> float:
    """FLOP a second of a product in the precision that models compute in there."""
    side = SIDE[device.type]
    one, other = (torch.randn(side, side, device=device, dtype=precision(device)) for _ in range(2))
    out = torch.empty_like(one)
    return 2 * side**3 / _second(lambda: torch.mm(one, other, out=out), device)


def head(device: torch.device, scale: str, models: dict[str, str]) -> dict[str, Any]:
    """Where the figures come from. models: by their part in the work, what they are."""
    release(device)
    return {
        "scale": scale,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} thread(s)",
        "precision": str(precision(device)).removeprefix("torch."),
        **models,
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "copied_bytes_per_second": copy_rate(device),
        "product_flop_per_second": product_rate(device),
    }


def _second(call: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a call."""
    seen = []
    for _ in range(TIMES + 1):
        synchronise(device)
        started = time.perf_counter()
        for _ in range(CALLS[device.type]):
            call()
        synchronise(device)
        seen.append((time.perf_counter() - started) / CALLS[device.type])
    return median(seen[1:])


def _commit() -> str:
    told = commit()
    return f"{told['id'][:12]}{' and changes' if told['dirty'] else ''}" if told["id"] else "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
