"""The answer beside the question as text: what the arm `bridged_with_text` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import SHARED_TOKENS, Batch, Bridge, cut


@dataclass(frozen=True, kw_only=True)
class AnswerBesideText(Loss):
    """NLL a token of the answer given the question as text and the soft tokens where the translator places them beside it."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "answer_beside_text"
    weight: float = 1.0

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")

    def count(self, batch: Batch) -> int:
        """Answer tokens."""
        return sum(len(row) for row in cut(batch.answers, SHARED_TOKENS))

    def total(self, bridge: Bridge) -> Tensor:
        """Summed NLL."""
        pieces = bridge.behind_text(*bridge.module.place(bridge.target, bridge.question, bridge.soft_BKD))
        return bridge.read(pieces, cut(bridge.batch.answers, SHARED_TOKENS)).nll.sum()
