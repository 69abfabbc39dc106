"""A loss on another target that reads the same latents: what makes an interlingua one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import Batch, Bridge
from raybridge.losses.next_token import AnswerNLL


@dataclass(frozen=True, kw_only=True)
class OtherTarget:
    """`loss` (its own weight left out) on the soft tokens that the translator writes for `target`."""

    name: ClassVar[str] = "other_target"
    weight: float = 1.0
    target: str
    loss: Loss = AnswerNLL()

    def __post_init__(self) -> None:
        check_positive(self, "weight")

    def starts(self, *, warmup: int) -> int:
        """When the loss inside does."""
        return self.loss.starts(warmup=warmup)

    def count(self, batch: Batch) -> float:
        """What the loss inside counts, in the other target's tokens."""
        return self.loss.count(batch.others[self.target])

    def total(self, bridge: Bridge) -> Tensor:
        """The sum of the loss inside."""
        return self.loss.total(bridge.others[self.target])
