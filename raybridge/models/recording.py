"""Packed passes recorded as CUDA graphs, there and back: the host starts one where it started two thousand kernels.

A step of short texts is held up by the host: to start the kernels of a layer takes it longer than they take the card. A graph
is of one shape, so rows are filled up to a few lengths. What they are filled with stands behind them as a sequence of its own,
which nothing attends to and no gradient comes from. A shape is recorded when it comes again and there is memory for it; at
first, and where a model cannot be recorded, it is run as it is.

Shapes: N positions of a row, P of the filled one, Q sequences of a row, B beginnings, D width.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from raybridge.models.graph import captured
from raybridge.models.lent import Lent
from raybridge.models.pieces import sent

RUNS = 1  # of a shape before it is recorded
MOST = 64  # shapes that are recorded
SPREAD = 3.0  # of the positions of a pass, in roots of them
WAIT = 50  # runs until memory is looked for again
STEP = 128  # by which what is counted in a shape is rounded up
LONGEST = 512  # that a kernel is told of at least: for positions that no sequence has it starts threads that end at once
READ = ("input_ids", "inputs_embeds")  # what a pass goes through, by the names that transformers has

Given = Mapping[str, Any]  # what a packed pass is told (`packing.attention`)
Run = Callable[[Given, Sequence[int]], list[Tensor]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What passes have alike that one recording can stand for.

    sizes: of beginnings, as `packed_prefix.attend` has them; None without. lent: what is lent to the layers, of which a
    recording has the very tensors.
    """

    read: str
    positions: int
    sequences: int
    longest: int
    beginnings: int
    sizes: tuple[int, int, int] | None
    wanted: tuple[int, ...]
    lent: Lent | None
    gradient: bool

    @staticmethod
    def of(given: Given, wanted: Sequence[int], *, lent: Lent | None, gradient: bool, window: int | None = None) -> Shape:
        """The shape of a pass, filled up. window: how far back its layers see; no sequence is longer."""
        (read,) = (name for name in READ if name in given)
        starts, _, sizes = given.get("beginnings") or ((), (), None)
        room = room_for(given[read].shape[1])
        longest = doubled(given["max_length_q"], LONGEST)
        longest = longest if window is None else min(longest, window)
        return Shape(
            read=read,
            positions=up(given[read].shape[1], room),
            sequences=up(len(given["cu_seq_lens_q"]) + -(-room // longest), STEP // 8),
            longest=longest,
            beginnings=len(starts),
            sizes=sizes and (sizes[0], doubled(sizes[1] + room, LONGEST), up(sizes[2], STEP)),
            wanted=tuple(wanted),
            lent=lent,
            gradient=gradient,
        )

    @property
    def place(self) -> tuple[object, ...]:
        """Recordings of one place use the same memory, and so one at a time."""
        return (self.lent, self.sizes is not None) if self.gradient else ()

    def told(self, like: Given) -> dict[str, Any]:
        """What a pass of this shape is told, in tensors that `fill` writes to. like: a pass of it."""
        first = like[self.read]
        read = first.new_zeros(1, self.positions, *first.shape[2:]).requires_grad_(self.gradient)
        numbers = like["position_ids"], like["cu_seq_lens_q"]
        places_1P, bounds_Q = numbers[0].new_zeros(1, self.positions), numbers[1].new_zeros(self.sequences)
        made = {
            **{self.read: read, "attention_mask": None, "position_ids": places_1P},
            **{"cu_seq_lens_q": bounds_Q, "max_length_q": self.longest},
        }
        if self.lent is not None:
            made["lent"] = True
        if self.sizes is not None:
            starts_B, forks_B, _ = like["beginnings"]
            made["beginnings"] = (torch.zeros_like(starts_B), torch.zeros_like(forks_B), self.sizes)
        return made

    @torch.no_grad()
    def fill(self, told: Given, given: Given) -> None:
        """Write what a pass is given into what a recording reads. Behind it stands what was read before, at position 0."""
        N = given[self.read].shape[1]
        for name in (self.read, "position_ids"):
            told[name][:, :N].copy_(given[name])
        told["position_ids"][:, N:].zero_()  # some models look at the largest
        bounds_Q, Q = told["cu_seq_lens_q"], len(given["cu_seq_lens_q"])
        bounds_Q[:Q].copy_(given["cu_seq_lens_q"])
        ends_Q = N + self.longest * torch.arange(1, len(bounds_Q) - Q + 1, dtype=bounds_Q.dtype)
        bounds_Q[Q:].copy_(sent(ends_Q.clamp(max=self.positions), bounds_Q.device))
        if self.sizes is not None:  # the last beginning is seen by what the row is filled with, for it must see something
            for mine, theirs in zip(told["beginnings"][:2], given["beginnings"][:2], strict=True):
                mine.copy_(theirs)
            told["beginnings"][1][-1:].fill_(self.positions - self.sizes[0])


def up(number: int, step: int) -> int:
    """Rounded up to a multiple of a step."""
    return -(-number // step) * step


def doubled(number: int, least: int) -> int:
    """Rounded up to what doubling makes of the least."""
    while least < number:
        least *= 2
    return least


def room_for(positions: int) -> int:
    """By what so many positions are rounded up: a sum of texts spreads as its root does, so all have as few lengths."""
    return max(2 ** round(math.log2(SPREAD * math.sqrt(positions))), STEP // 2)


class Recording:
    """A pass of one shape as a graph, and its way back as another."""

    def __init__(self, run: Run, shape: Shape, like: Given, pool: Any, room: int) -> None:
        self.shape, self.told = shape, shape.told(like)
        shape.fill(self.told, like)
        read = self.told[shape.read]
        found = run(self.told, shape.wanted)
        if shape.gradient:
            torch.autograd.grad(found[0], read, torch.zeros_like(found[0]))
        del found  # with what it keeps for its way back
        self._there, found = captured(partial(run, self.told, shape.wanted), read.device, pool=pool, room=room)
        if shape.gradient:
            self._given = torch.zeros_like(found[0])
            # What the pass keeps must outlive the way back: a step that measures its terms goes back once for each.
            back = partial(torch.autograd.grad, found[0], read, self._given, retain_graph=True)
            self._back, (self._gradient,) = captured(back, read.device, pool=pool)
        self._found = [one.detach() for one in found]

    def there(self, given: Given) -> list[Tensor]:
        """What the pass finds (1, N, D), at every wanted place."""
        self.shape.fill(self.told, given)
        self._there.replay()
        return [one[:, : given[self.shape.read].shape[1]].clone() for one in self._found]

    def back(self, gradient_1ND: Tensor) -> Tensor:
        """The gradient of what was read (1, N, D) in the last pass, from that of what it found."""
        N = gradient_1ND.shape[1]
        self._given[:, :N].copy_(gradient_1ND)
        self._given[:, N:].zero_()
        self._back.replay()
        return self._gradient[:, :N].clone()


class Lease:
    """Held by a pass whose gradient may still be asked for: until then nobody else may use its memory."""


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: Recording, lease: Lease, given: Given, _: Tensor) -> Tensor:
        ctx.recording, ctx.lease = recording, lease
        (found_1ND,) = recording.there(given)
        return found_1ND

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, ctx.recording.back(gradients[0])


class Recorder:
    """Runs the packed passes of a model, those of a shape that has come before from its recording.

    recorded: the same pass as it is recorded; None for as it is run. window: how far back its layers see. finds_room: the bytes
    that a pass of a shape takes, where so many times as many are free; None where they are not.
    """

    def __init__(
        self,
        run: Run,
        *,
        recorded: Run | None = None,
        window: int | None = None,
        finds_room: Callable[[Shape, int], int | None] = lambda _, __: 0,
        record: Callable[[Run, Shape, Given, Any, int], Any] = Recording,
    ) -> None:
        self.run, self.recorded, self.window, self.finds_room, self.record = run, recorded or run, window, finds_room, record
        self.recordings: dict[Shape, Any] = {}
        self.refused = ""
        self.room = 2  # times what a pass takes, that must be free before one is recorded
        self.passes = self.replays = 0
        self._runs: Counter[Shape] = Counter()
        self._pools: dict[tuple[object, ...], Any] = {}
        self._leases: dict[tuple[object, ...], ReferenceType[Lease]] = {}

    def passed(self, given: Given, wanted: Sequence[int], *, lent: Lent | None) -> list[Tensor]:
        """What a pass finds at the wanted places. lent: what is lent to the layers, None without."""
        self.passes += 1
        (read,) = (given[name] for name in READ if name in given)
        gradient = torch.is_grad_enabled() and read.requires_grad
        shape = Shape.of(given, wanted, lent=lent, gradient=gradient, window=self.window)
        held = self._leases.get(shape.place)
        if (gradient and len(wanted) > 1) or (held is not None and held() is not None):
            return self.run(given, wanted)
        recording = self.recordings.get(shape) or self._recorded(shape, given)
        if recording is None:
            return self.run(given, wanted)
        self.replays += 1
        if not gradient:
            found: list[Tensor] = recording.there(given)
            return found
        lease = Lease()
        self._leases[shape.place] = ref(lease)
        return [_Replayed.apply(recording, lease, given, read)]

    def _recorded(self, shape: Shape, given: Given) -> Any:
        """The recording of a shape that has come often enough; None where it is not to be, or cannot be, recorded."""
        self._runs[shape] += 1
        if self.refused or self._runs[shape] <= RUNS or len(self.recordings) >= MOST:
            return None
        # Recordings of a place take its memory once, and passes that are run take as much beside them: both must find room.
        room = self.finds_room(shape, self.room - any(one.place == shape.place for one in self.recordings))
        if room is None:
            self._runs[shape] -= WAIT
            return None
        if shape.place not in self._pools:
            self._pools[shape.place] = torch.cuda.graph_pool_handle() if given[shape.read].is_cuda else None
        for run in dict.fromkeys((self.recorded, self.run)):
            try:
                self.recordings[shape] = self.record(run, shape, given, self._pools[shape.place], room)
                return self.recordings[shape]
            except RuntimeError as error:  # a model that asks the device on its way, or less memory than was thought
                why = str(error) or type(error).__name__  # the error itself would hold the tensors of its pass
            if run is not self.run:
                log.warning("passes are recorded as they are run from here on, for they could not be in fewer kernels: %s", why)
                self.recorded = self.run
        self.refused = why
        log.warning("passes are run as they are from here on, for one could not be recorded: %s", why)
        return None

    def forget(self) -> bool:
        """Give back the memory of what is recorded; whether there was any. With more room it is recorded anew."""
        there = bool(self.recordings)
        self.room += there
        self.recordings.clear()
        self._pools.clear()
        self._leases.clear()
        return there
