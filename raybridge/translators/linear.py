"""Linear translator: each soft token is a linear map of one source position, or of the mean of a window of them.

The baseline that is hard to beat: with K at least as long as the question it writes one soft token a source token.

Shapes: B batch, T source positions, L source layers, S source width or features of a position, K soft tokens, D target width,
N aligned positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from raybridge.config import typed
from raybridge.translators import OneTarget, TranslatorModule
from raybridge.translators.anchor import Anchor, one_hot, picks, windows
from raybridge.translators.parts import at_rms, check
from raybridge.translators.ridge import Moments

Pooling = Literal["picked", "mean"]


@dataclass(frozen=True, kw_only=True)
class Linear(OneTarget):
    """A map of `layers`, started in closed form (`Anchor`) and trained from there.

    pooling, where a question is longer than K: "picked" reads K evenly spaced positions, "mean" averages K windows. In a
    shorter question soft token k stands for position k, and those left over are learned and the same for every question.
    """

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...]
    pooling: Pooling = "picked"

    def __post_init__(self) -> None:
        typed(self)
        check(soft_tokens=self.soft_tokens, layers=self.layers)

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> LinearModule:
        """The module, initialised from torch's current random state."""
        return LinearModule(self, source_dim, target_dim, target_rms)


class LinearModule(TranslatorModule):
    """See the file's docstring."""

    def __init__(self, config: Linear, source_dim: int, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.config, self.target_rms = config, target_rms
        features = len(config.layers) * source_dim
        self.anchor = Anchor(features, target_dim)
        nn.init.normal_(self.anchor.map.weight, std=features**-0.5)  # until it is fitted
        self.blank_KD = nn.Parameter(torch.randn(config.soft_tokens, target_dim))

    @property
    def fitted_from(self) -> frozenset[str]:
        """Embeddings, which it maps onto."""
        return frozenset({"embeddings"})

    def fit(self, moments: Moments) -> None:
        """Fit the map."""
        self.anchor.fit(moments)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS."""
        K = self.config.soft_tokens
        weights_BKT = windows(mask_BT, K) if self.config.pooling == "mean" else one_hot(*picks(mask_BT.sum(1), K), mask_BT)
        real_BK1 = weights_BKT.any(-1, keepdim=True)
        soft_BKD = torch.where(real_BK1, self.anchor(weights_BKT, states_BTLS.flatten(2)).float(), self.blank_KD)
        return at_rms(soft_BKD, self.target_rms)
