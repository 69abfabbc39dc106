"""A loss on another target that reads the same latents: what makes an interlingua one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import Batch, Bridge
from raybridge.losses.next_token import AnswerNLL
from raybridge.translators import Translator


@dataclass(frozen=True, kw_only=True)
class OtherTarget(Loss):
    """`loss` (its own weight left out) on the soft tokens that the translator writes for `target`."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "other_target"
    weight: float = 1.0
    target: str
    loss: Loss = AnswerNLL()

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")

    @property
    def other_target(self) -> str:
        """The target."""
        return self.target

    @property
    def compares(self) -> bool:
        """Whether the loss inside does."""
        return self.loss.compares

    def starts(self, *, warmup: int) -> int:
        """When the loss inside does."""
        return self.loss.starts(warmup=warmup)

    def count(self, batch: Batch) -> float:
        """What the loss inside counts, in the other target's tokens."""
        return self.loss.count(batch.others[self.target])

    def total(self, bridge: Bridge) -> Tensor:
        """The sum of the loss inside."""
        return self.loss.total(bridge.others[self.target])


def check_other_targets(translator: Translator, losses: Sequence[Loss], *, where: str) -> None:
    """Refuse an adapter for another target that no loss trains, and a loss on another target without an adapter for it."""
    adapters = list(translator.other_targets)
    trained = [loss.other_target for loss in losses if loss.other_target is not None]
    if trained != adapters:
        raise ValueError(
            f"{where}: its translator has adapters for the other targets {adapters} and its losses other_target "
            f"train {trained}; each needs the other"
        )
