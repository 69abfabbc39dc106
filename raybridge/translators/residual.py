"""Hybrid conditioning: the question stays as text, and what the translator wrote is added onto its embeddings.

Shapes: B batch, T tokens of the question in the target, K soft tokens, D target width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raybridge.lm import Piece
from raybridge.translators import TranslatorModule
from raybridge.translators.anchor import picks
from raybridge.translators.options import Option, OptionModule


@dataclass(frozen=True, kw_only=True)
class Residual(Option):
    """A translator whose soft tokens, times `scale`, are added to the question tokens they stand for.

    It must be the outermost option. The loss `residual_answer` trains it so; the arm `bridged` still shows what the soft
    tokens carry without the text.
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(f"translator Residual: scale must be above 0, not {self.scale}")

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the translator."""
        return self.translator.layers

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> ResidualModule:
        """The module, initialised from torch's current random state."""
        return ResidualModule(self.scale, self.translator.build(source_dim, target_dim, target_rms=target_rms))


class ResidualModule(OptionModule):
    """The translator itself; it knows how much of it is added."""

    def __init__(self, scale: float, inner: TranslatorModule) -> None:
        super().__init__(inner)
        self.scale = scale

    def changed(self, states_BTLS: Tensor) -> Tensor:
        """The states as they are."""
        return states_BTLS


def added(question: Piece, soft_BKD: Tensor, *, scale: float) -> Piece:
    """The question with each soft token, times `scale`, added to the token it stands for (see `anchor.picks`)."""
    chosen_BK, real_BK = picks(question.mask_BT.sum(1), soft_BKD.shape[1])
    addend_BKD = scale * soft_BKD.to(question.embeds_BTD.dtype) * real_BK.unsqueeze(-1)
    index_BKD = chosen_BK.unsqueeze(-1).expand_as(addend_BKD)
    residual_BTD = torch.zeros_like(question.embeds_BTD).scatter_add(1, index_BKD, addend_BKD)
    return replace(question, embeds_BTD=question.embeds_BTD + residual_BTD)
