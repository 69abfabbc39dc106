"""A pass as a CUDA graph, made while the device is still at what it was told before.

`torch.cuda.graph` waits for the device, and gives back all that this process holds of its memory and of the host's and does not
use: who goes on takes it again, piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import torch

from raybridge.models.free import GIB, further_bytes

T = TypeVar("T")
ROOM = GIB  # bytes: the graph of a token of 512 slots takes a part of them


def captured(
    work: Callable[[], T], device: torch.device, *, pool: Any = None, room: int = ROOM
) -> tuple[torch.cuda.CUDAGraph, T]:
    """What is done as a graph, and the tensors that its replays write; nothing is computed now.

    It must have been done once before: libraries allocate, and kernels are compiled and loaded, at their first call.

    pool: of graphs of which one is at work at a time. room: bytes that it may take. While a graph is made no memory can be
    given back for it, so what this process does not use is given back before, where there is less beside that.
    """
    if further_bytes(device) < max(room, ROOM):
        torch.cuda.empty_cache()
    with torch.cuda.device(device):
        aside, graph = _beside(torch.cuda.current_device()), torch.cuda.CUDAGraph()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                found = work()
            except BaseException:
                with suppress(RuntimeError):  # which would say no more than that the capture has ended by this error
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(aside)
    return graph, found


@cache
def _beside(card: int) -> torch.cuda.Stream:
    """Where graphs of a card are made: memory that one stream has used is no other's until it is given back."""
    return torch.cuda.Stream(card)
