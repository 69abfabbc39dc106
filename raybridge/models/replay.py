"""A token of every slot as one CUDA graph, replayed: a GPU waits otherwise for the host to launch a thousand kernels a token.

Shapes: N slots that run, V vocabulary.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from raybridge.models.graph import captured
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
        """A graph of the pass. What is written on the way, a position behind each row's end, its first replay writes again."""
        passed = partial(self._passed, few=True)
        passed()
        pool = next((one.pool() for one, _ in self._graphs.values()), None)
        return captured(passed, self.slots.lm.device, pool=pool)
