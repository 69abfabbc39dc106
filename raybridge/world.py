"""This process among the workers of a trial: what they add up, gather and agree on.

Alone (size 1) every operation is the identity, so the same training step runs with and without torch.distributed. What one
worker does alone and the others wait for may fail: its error goes the way that its value would have gone, or they would wait
for it until the process group gives up.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
LONGEST = 6 * 3600  # seconds that workers wait for what the first does alone, such as the evaluation of a whole test split


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank and number of the workers of one trial, and this worker's device.

    beside: further devices of this worker, over which its frozen models lie as well; everything else is on the first.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    beside: tuple[torch.device, ...] = ()

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All of this worker's."""
        return (self.device, *self.beside)

    def add_up(self, values: Tensor) -> Tensor:
        """Sum over workers, in place. No gradient."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Of each number that the host knows, the sum over workers. No device is waited for, which may still be at work."""
        told = torch.tensor(numbers, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(told, group=self._hosts)
        return told.tolist()

    @cached_property
    def _hosts(self) -> dist.ProcessGroup | None:
        """A group of the workers' hosts; None where theirs is one already."""
        return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=timedelta(seconds=LONGEST))

    def gather(self, rows_BD: Tensor) -> Tensor:
        """Rows of all workers in rank order. No gradient. Every worker must have as many rows."""
        if self.size == 1:
            return rows_BD
        parts = [torch.empty_like(rows_BD) for _ in range(self.size)]
        dist.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    def same(self, values: Iterable[Tensor]) -> list[bool]:
        """Of each rank, whether its tensors are those of rank 0, bit for bit. They must be as many, of equal shapes."""
        if self.size == 1:
            return [True]
        mine = torch.ones(1, dtype=torch.bool, device=self.device)
        for value in values:
            own = value.detach().reshape(-1)
            first = own.clone()
            dist.broadcast(first, src=0)
            mine &= (first.view(torch.uint8) == own.view(torch.uint8)).all()
        return self.each(lambda: bool(mine))

    def agree(self, decision: Any) -> Any:
        """What rank 0 decided."""
        return self._told(decision, by=0)

    def only_first(self, work: Callable[[], T]) -> T:
        """What rank 0 alone does: its value on every rank, or its error, raised on every rank."""
        if self.size == 1:
            return work()
        return _taken(self._told(_outcome(work) if self.rank == 0 else None, by=0))

    def each(self, work: Callable[[], T]) -> list[T]:
        """What every rank does: all their values in rank order, or the first error among them, raised on every rank."""
        if self.size == 1:
            return [work()]
        mine = _outcome(work)
        return [_taken(self._told(mine, by=rank)) for rank in range(self.size)]

    def raise_any(self, met: Exception | None) -> None:
        """Raise on every rank the first error that any of them has met; every rank says what it has."""

        def raise_mine() -> None:
            if met is not None:
                raise met

        self.each(raise_mine)

    def _told(self, what: Any, *, by: int) -> Any:
        """What a rank says, on every rank."""
        if self.size == 1:
            return what
        box = [what]
        dist.broadcast_object_list(box, src=by, device=self.device)
        return what if self.rank == by else box[0]


def _outcome(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """The value of a call and no error, or no value and an error that can be told to others."""
    try:
        return work(), None
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error with arguments of its own: its words travel, as of a kind by which it is judged
            told = _of_known_kind(error)
            told.__cause__ = error
            return None, told
        return None, error


def _of_known_kind(error: Exception) -> Exception:
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, ValueError):
        return ValueError(words)
    return OSError(error.errno, words) if isinstance(error, OSError) else RuntimeError(words)


def _taken(outcome: tuple[Any, Exception | None]) -> Any:
    value, error = outcome
    if error is not None:
        raise as_agreed(error)
    return value


def as_agreed(error: Exception) -> Exception:
    """The error, marked as one that every worker ends with. Not in words: a traceback ends with what happened."""
    error.agreed = True  # type: ignore[attr-defined]
    return error


def agreed(error: BaseException) -> bool:
    """Whether every worker has it, so that none waits for another."""
    return getattr(error, "agreed", False)
