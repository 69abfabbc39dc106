"""Hybrid conditioning at the embeddings: what the translator wrote is added onto those of the question.

Shapes: B batch, T tokens of the question in the target, K soft tokens, D target width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from raybridge.models.pieces import Piece
from raybridge.translators import TranslatorModule
from raybridge.translators.anchor import placed
from raybridge.translators.options import OntoText, OntoTextModule


@dataclass(frozen=True, kw_only=True)
class Residual(OntoText):
    """A translator whose soft tokens, times `scale`, are added to the question tokens they stand for (see `OntoText`)."""

    VERSION: ClassVar[int] = 1

    scale: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(f"translator Residual: scale must be above 0, not {self.scale}")

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> ResidualModule:
        """The module, initialised from torch's current random state."""
        return ResidualModule(self.scale, self.translator.build(source_dim, target_dim, target_rms=target_rms))


class ResidualModule(OntoTextModule):
    """See `Residual`."""

    def __init__(self, scale: float, inner: TranslatorModule) -> None:
        super().__init__(inner)
        self.scale = scale

    def onto(self, question: Piece, soft_BKD: Tensor) -> Piece:
        """The question, its embeddings changed."""
        addend_BTD = placed(self.scale * soft_BKD.to(question.embeds_BTD.dtype), question.mask_BT)
        return replace(question, embeds_BTD=question.embeds_BTD + addend_BTD)
