"""A token of every slot as one CUDA graph, replayed: a GPU waits otherwise for the host to launch a thousand kernels a token.

Shapes: N slots that run, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raybridge.models.slots import Slots


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
            logits_NV = self._passed()
        else:
            running = self.slots.seats.running
            if running not in self._graphs:
                self._graphs[running] = self._captured()
            graph, logits_NV = self._graphs[running]
            graph.replay()
        self.slots.seats.advance()
        return logits_NV

    def _passed(self) -> Tensor:
        return self.slots.lm.head(self.slots.states())

    def _captured(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A graph of the pass. What is written on the way, a position behind each row's end, its first replay writes again."""
        with torch.cuda.device(self.slots.lm.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._passed()  # libraries allocate at their first call
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            pool = next((one.pool() for one, _ in self._graphs.values()), None)
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                logits_NV = self._passed()
        return graph, logits_NV
