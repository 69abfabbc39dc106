"""Several ways to do the same work, timed in turns: the clock, the memory, and what is done where memory ends."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

import torch

from raybridge.models.free import peak_bytes

T = TypeVar("T")
Call = Callable[[], Callable[[], "Work"]]
Ready = Callable[[], AbstractContextManager[Call]]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one call did. steps: whose time is told. useful: FLOP or bytes that it needs at least. None where nobody counts."""

    problems: int
    tokens: int | None
    steps: int = 1
    useful: float | None = None


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way. ready: enters what it needs, such as its models on the device, and gives the call that is timed; what
    that returns tells its work.

    beside: the name of the plain way that it is held against.
    """

    name: str
    ready: Ready
    beside: str = ""


@dataclass(kw_only=True)
class Timed:
    """What was seen of a way. failed: why there is nothing. peak: bytes of the device's memory; None where nobody counts."""

    way: Way
    works: list[Work] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    failed: str = ""

    @property
    def step(self) -> float | None:
        """Median seconds of a step; None where nothing was seen."""
        each = [seconds / work.steps for work, seconds in zip(self.works, self.seconds, strict=True)]
        return median(each) if each else None

    def rates(self, count: str) -> list[float]:
        """What a field of `Work` counts, a second of each call; none where it is not counted."""
        counted = [getattr(work, count) for work in self.works]
        return [number / seconds for number, seconds in zip(counted, self.seconds, strict=True) if number is not None]


def taken_in_turns(ways: Sequence[Way], *, rounds: int, repeats: int, device: torch.device, warm: bool = False) -> list[Timed]:
    """Each way timed `repeats` times in each of the rounds. warm: whether `ready` warms it up; else one call does.

    A way that does not fit the device's memory is told so and left out of what follows.
    """
    found = [Timed(way=way) for way in ways]
    for number in range(rounds):
        for one in found:
            if not one.failed:
                _turn(one, repeats, device, warm=warm or number > 0)
                release(device)
    return found


def _turn(one: Timed, repeats: int, device: torch.device, *, warm: bool) -> None:
    try:
        with one.way.ready() as call:
            if not warm:
                call()
            _reset_peak(device)
            for _ in range(repeats):
                seconds, told = timed(call, device)
                one.seconds.append(seconds)
                one.works.append(told())
            one.peak = _peak(device, one.peak)
    except torch.OutOfMemoryError:
        one.failed = "does not fit"
        one.seconds, one.works = [], []


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """The seconds that a call takes, and what it gives."""
    synchronise(device)
    started = time.perf_counter()
    done = call()
    synchronise(device)
    return time.perf_counter() - started, done


def tried(call: Callable[[], T], device: torch.device) -> tuple[float, T] | None:
    """The seconds of a call, and what it gives; None where it does not find the memory that it needs."""
    found = None
    with suppress(torch.OutOfMemoryError):
        found = timed(call, device)
    release(device)  # behind the handler: until then the error holds the tensors of its call
    return found


def synchronise(device: torch.device) -> None:
    """Wait for what a device was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give back what nothing refers to."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device, before: int | None) -> int | None:
    return max(peak_bytes(device), before or 0) if device.type == "cuda" else None
