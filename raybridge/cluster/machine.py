"""What this machine has to run on: its GPUs and CPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from raybridge.scales import Machine

SMI = ("nvidia-smi", "--list-gpus")
MEMORY = ("nvidia-smi", "--query-gpu=memory.total,memory.reserved", "--format=csv,noheader,nounits")
CARD = 79.0  # GiB
PATIENCE = 20.0  # seconds: a driver that has not been asked for long takes some


def here() -> Machine:
    """This machine: GPUs are what NUM_GPUS says, else what nvidia-smi lists, else what torch sees."""
    told = gpus_told()
    return Machine(gpus=gpus_here() if told is None else told, cpus=os.cpu_count() or 1, told=told is not None)


def gpus_told() -> int | None:
    """What NUM_GPUS says; nothing where it is empty. ValueError where it is no number."""
    told = os.environ.get("NUM_GPUS")
    if not told:
        return None
    if not told.isdecimal():  # isdigit lets through what int refuses, such as a superscript
        raise ValueError(f"NUM_GPUS={told!r} is not a number of GPUs (0, 1, 2, ...)")
    return int(told)


def gpus_here() -> int:
    """GPUs of this machine that this process may use."""
    listed = _asked_of_smi(SMI)
    if listed is not None:
        return gpus_in(listed, visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    import torch  # only where nothing else answers

    return torch.cuda.device_count()


def unusable(gpus: int) -> str | None:
    """Why torch does not compute on so many GPUs of this machine, whatever NUM_GPUS or nvidia-smi say; None where it can."""
    import torch

    there = torch.cuda.device_count()  # asks NVML where it can, and starts nothing on a device
    if there >= gpus:
        return None
    found = f"finds {there or 'none'}" if torch.backends.cuda.is_built() else "is built without CUDA"
    return f"torch {torch.__version__} {found}"


def gpus_in(listed: str, *, visible: str | None) -> int:
    """How many GPUs nvidia-smi lists, of those that CUDA_VISIBLE_DEVICES leaves, which it does not heed.

    A line is "GPU 0: NAME (UUID: GPU-...)"; parts of a GPU are indented below it. CUDA stops at the first entry that is none.
    """
    there = sum(line.startswith("GPU ") for line in listed.splitlines())
    if visible is None:
        return there
    count = 0
    for entry in visible.split(","):
        name = entry.strip()
        if not name or name.startswith("-") or (name.isdigit() and int(name) >= there):
            break
        count += 1
    return count


def card() -> float:
    """GiB of the smallest GPU that nvidia-smi lists; of a card of 80 GB where there is none, as for a plan made elsewhere."""
    return card_seen() or CARD


def card_seen() -> float | None:
    """GiB of the smallest GPU that nvidia-smi lists; None where it lists none."""
    return min((gib_in(line) for line in (_asked_of_smi(MEMORY) or "").splitlines() if line.strip()), default=None)


def gib_in(line: str) -> float:
    """GiB that processes find on a GPU, of a line "81559, 535": MiB in all, and of these the driver's own, if it tells them."""
    total, _, driver = line.partition(",")
    return (int(total) - (int(driver) if driver.strip().isdigit() else 0)) / 1024


def _asked_of_smi(command: Sequence[str]) -> str | None:
    """What nvidia-smi prints; None where there is none, or it cannot reach its driver: torch is asked then."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
