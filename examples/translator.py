"""A translator: the mean hidden state of a question, mapped to K soft tokens.

Copied into raybridge/translators/, a sweep says `translator=MeanState(soft_tokens=16, layers=base.translator.layers)`.

Shapes: B batch, T source positions, L source layers, S source width, K soft tokens, D target width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from raybridge.translators import OneTarget, TranslatorModule
from raybridge.translators.parts import at_rms, check


@dataclass(frozen=True, kw_only=True)
class MeanState(OneTarget):
    """A linear map of one vector a question: what a resampler carries beyond it lay in single positions."""

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        check(soft_tokens=self.soft_tokens, layers=self.layers)

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> MeanStateModule:
        """The module, initialised from torch's current random state."""
        return MeanStateModule(self, source_dim, target_dim, target_rms)


class MeanStateModule(TranslatorModule):
    """See `MeanState`."""

    def __init__(self, config: MeanState, source_dim: int, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.shape_KD, self.target_rms = (config.soft_tokens, target_dim), target_rms
        self.map = nn.Linear(len(config.layers) * source_dim, config.soft_tokens * target_dim)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS."""
        weights_BT = mask_BT / mask_BT.sum(1, keepdim=True)  # padding has no part in the mean
        mean_BLS = (weights_BT[:, :, None, None] * states_BTLS).sum(1)
        return at_rms(self.map(mean_BLS.flatten(1)).unflatten(1, self.shape_KD), self.target_rms)
