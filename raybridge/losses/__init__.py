"""Losses: pure functions of a `Bridge` with frozen configs, one file a family."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from raybridge.losses.bridge import SHARED_TOKENS, Batch, Bridge


def check_positive(loss: Loss, *fields: str) -> None:
    """Refuse a field of a loss that is not above 0."""
    for name in fields:
        if not getattr(loss, name) > 0:
            raise ValueError(f"loss {loss.name}: {name} must be above 0, not {getattr(loss, name)}")


def check_shared(loss: Loss, tokens: int) -> None:
    """Refuse a loss that looks further into the answers than their shared pass reads."""
    if not 1 <= tokens <= SHARED_TOKENS:
        raise ValueError(f"loss {loss.name}: it can look at 1..{SHARED_TOKENS} answer tokens, not {tokens}")


class Loss(Protocol):
    """What a loss's config offers."""

    name: ClassVar[str]

    @property
    def weight(self) -> float:
        """Factor in the total; the logged value is without it."""

    def starts(self, *, warmup: int) -> int:
        """The first step (from 0) at which the term is on."""

    def count(self, batch: Batch) -> float:
        """How many things this worker's value sums over."""

    def total(self, bridge: Bridge) -> Tensor:
        """The sum over this worker's share; divided by the count of all workers it is the term's value."""


class FromTheStart:
    """What a loss inherits that is on from the first step."""

    def starts(self, *, warmup: int) -> int:
        """From the first step."""
        return 0


@runtime_checkable
class Periodic(Protocol):
    """A loss that is on at each `every`-th step from its start, and off between."""

    @property
    def every(self) -> int:
        """Steps from one to the next."""


def active(loss: Loss, step: int, *, warmup: int) -> bool:
    """Whether a term is on at a step (from 0)."""
    since = step - loss.starts(warmup=warmup)
    return since >= 0 and since % period(loss) == 0


def period(loss: Loss) -> int:
    """Steps between two steps at which a term is on."""
    return loss.every if isinstance(loss, Periodic) else 1
