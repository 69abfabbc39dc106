"""A token of every slot as one CUDA graph, replayed: a GPU waits otherwise for the host to launch a thousand kernels a token.

Shapes: N slots that run, V vocabulary.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from raybridge.models.free import GIB, further_bytes
from raybridge.models.slots import Slots

ROOM = GIB  # bytes: the graph of a token of 512 slots takes a part of them


class Replay:
    """The logits behind the tokens in slots; on a GPU one graph for each number of slots that has run."""

    def __init__(self, slots: Slots, *, captures: bool) -> None:
        self.slots = slots
        self.captures = captures and slots.lm.device.type == "cuda"
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Logits (N, V), as the model makes them, behind the token in each slot that runs; each has a position more."""
        if not self.captures:
            logits_NV = self._passed(few=False)
        else:
            self.prepare()
            graph, logits_NV = self._graphs[self.slots.seats.running]
            graph.replay()
        self.slots.seats.advance()
        return logits_NV

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the graph of as many slots as run, if there is none: it waits for no prompt that a GPU is still at."""
        running = self.slots.seats.running
        if self.captures and running not in self._graphs:
            self._graphs[running] = self._captured()

    def _passed(self, *, few: bool) -> Tensor:
        return self.slots.lm.head(self.slots.states(few=few))

    def _captured(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A graph of the pass. What is written on the way, a position behind each row's end, its first replay writes again.

        `torch.cuda.graph` would wait for the device and give back all that is free of its memory; the host has time while the
        device is at prompts.
        """
        device = self.slots.lm.device
        if further_bytes(device) < ROOM:
            torch.cuda.empty_cache()  # while a graph is made nothing can be given back for it
        with torch.cuda.device(device):
            aside, graph = _beside(torch.cuda.current_device()), torch.cuda.CUDAGraph()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._passed(few=True)  # libraries allocate, and kernels are compiled, at their first call
                pool = next((one.pool() for one, _ in self._graphs.values()), None)
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    logits_NV = self._passed(few=True)
                finally:
                    graph.capture_end()
            torch.cuda.current_stream().wait_stream(aside)
        return graph, logits_NV


@cache
def _beside(card: int) -> torch.cuda.Stream:
    """Where graphs of a card are made: memory that one stream has used is no other's until it is given back."""
    return torch.cuda.Stream(card)
