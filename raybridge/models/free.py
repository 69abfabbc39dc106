"""What a process may take of a device's memory, and what of that is free."""

from __future__ import annotations

import torch

GIB = 2**30
CONTEXT = 0.6  # GiB of CUDA in a process
ON_CPU = 4 * GIB  # bytes that decoding takes at the most where memory is shared with everything else


def hold_to(device: torch.device, gib: float) -> None:
    """From here on this process takes no more than so many GiB of a GPU, what CUDA itself takes included."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(max(gib - CONTEXT, 0.0) * GIB / total, 1.0), _card(device))


def allotted_bytes(device: torch.device) -> int:
    """What this process may take of a GPU."""
    total = torch.cuda.get_device_properties(device).total_memory
    return int(torch.cuda.get_per_process_memory_fraction(_card(device)) * total)


def _card(device: torch.device) -> int:
    """Its number. `cuda` alone is the current one, which torch takes for every question but that of a share."""
    return torch.cuda.current_device() if device.index is None else device.index


def free_bytes(device: torch.device) -> int:
    """What a process can still take on a device, with what it holds there and does not use."""
    if device.type != "cuda":
        return ON_CPU
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device) - graph_bytes(device)
    return further_bytes(device) + idle


def further_bytes(device: torch.device) -> int:
    """What a process can take on a GPU beside what it holds there, in use or not."""
    free, _ = torch.cuda.mem_get_info(device)
    return min(free, allotted_bytes(device) - torch.cuda.memory_reserved(device))


def peak_bytes(device: torch.device) -> int:
    """The most of a GPU that tensors have taken since that was reset, and what graphs keep beside them."""
    return torch.cuda.max_memory_allocated(device) + graph_bytes(device)


def graph_bytes(device: torch.device) -> int:
    """What graphs keep for their next replay, which torch counts as reserved and not as allocated."""
    card = _card(device)
    segments = [one for one in torch.cuda.memory_snapshot() if one["device"] == card and any(one["segment_pool_id"])]
    return sum(one["total_size"] - one["allocated_size"] for one in segments)


def give_back_graphs(device: torch.device, *, beyond: int) -> None:
    """Give back what graphs that are gone have kept, where all graphs keep more than so many bytes."""
    if device.type == "cuda" and graph_bytes(device) > beyond:
        torch.cuda.empty_cache()
