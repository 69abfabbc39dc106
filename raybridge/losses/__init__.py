"""Losses, one file a family: pure functions of a `Bridge` with frozen configs, each one term of what a translator minimises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from torch import Tensor

from raybridge.losses.bridge import SHARED_TOKENS, Batch, Bridge

Read = Literal["answers", "repeats"]


class Loss:
    """What a loss's config inherits. It is a frozen dataclass with a name and a weight, and defines `count` and `total`.

    weight: factor in the sum of all terms; the logged value is without it. reads: what it takes of the bridge at every step,
    the answers (`Bridge.student`) or the repetitions (`Bridge.repeated`). every: steps from one at which it is on to the next.
    other_target: the target beside the trial's own whose adapter it trains.
    """

    name: ClassVar[str]
    weight: float
    reads: ClassVar[frozenset[Read]] = frozenset()
    every: int = 1

    @property
    def other_target(self) -> str | None:
        """None: it looks at the trial's own target."""
        return None

    @property
    def compares(self) -> bool:
        """False: it does not look at the other problems of the global batch (`Bridge.everyone`)."""
        return False

    def starts(self, *, warmup: int) -> int:
        """The first step (from 0) at which the term is on."""
        return 0

    def count(self, batch: Batch) -> float:
        """How many things the value of these problems sums over."""
        raise NotImplementedError  # a loss defines it

    def total(self, bridge: Bridge) -> Tensor:
        """The sum over its problems; that of the global batch, divided by its count, is the term's value."""
        raise NotImplementedError  # a loss defines it


def check_positive(loss: Loss, *fields: str) -> None:
    """Refuse a field of a loss that is not above 0."""
    for name in fields:
        if not getattr(loss, name) > 0:
            raise ValueError(f"loss {loss.name}: {name} must be above 0, not {getattr(loss, name)}")


def check_shared(loss: Loss, tokens: int) -> None:
    """Refuse a loss that looks further into the answers than their shared pass reads."""
    if not 1 <= tokens <= SHARED_TOKENS:
        raise ValueError(f"loss {loss.name}: it can look at 1..{SHARED_TOKENS} answer tokens, not {tokens}")


def active(loss: Loss, step: int, *, warmup: int) -> bool:
    """Whether a term is on at a step (from 0)."""
    since = step - loss.starts(warmup=warmup)
    return since >= 0 and since % loss.every == 0


def read_together(losses: Iterable[Loss]) -> bool:
    """Whether these losses read answers as well as repetitions, so that one pass of the target gives both (`Bridge`)."""
    return {"answers", "repeats"} <= {read for loss in losses for read in loss.reads}
