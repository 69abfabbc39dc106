"""Linear translator: each soft token is a linear map of one source position, or of the mean of a window of them.

The baseline that is hard to beat: with K at least as long as the question it writes one soft token a source token.

Shapes: B batch, T source positions, L source layers, S source width, K soft tokens, D target width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from raybridge.errors import unknown
from raybridge.translators import TranslatorModule
from raybridge.translators.anchor import Anchor, picks
from raybridge.translators.parts import at_rms, check

Pooling = Literal["picked", "mean"]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A map of `layers`, started in closed form (`Anchor`) and trained from there.

    pooling, where a question is longer than K: "picked" reads K evenly spaced positions, "mean" averages K windows. In a
    shorter question soft token k stands for position k, and those left over are learned and the same for every question.
    """

    soft_tokens: int
    layers: tuple[int, ...]
    pooling: Pooling = "picked"

    def __post_init__(self) -> None:
        check(soft_tokens=self.soft_tokens, layers=self.layers)
        if self.pooling not in get_args(Pooling):
            raise unknown("pooling", self.pooling, get_args(Pooling), where="translator Linear")

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> LinearModule:
        """The module, initialised from torch's current random state."""
        return LinearModule(self, source_dim, target_dim, target_rms)


def windows(mask_BT: Tensor, soft_tokens: int) -> Tensor:
    """Weights (B, K, T) that average K windows of even length over each row's real positions.

    Window k of a row of n positions covers floor(kn/K) to ceil((k+1)n/K); a row of at most K has a window a position,
    and zeros for the soft tokens left over.
    """
    position_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    k_K1 = torch.arange(soft_tokens, device=mask_BT.device).unsqueeze(1)
    n_B11 = mask_BT.sum(1)[:, None, None]
    cells_B11 = n_B11.clamp(max=soft_tokens)
    start_BK1 = k_K1 * n_B11 // cells_B11
    end_BK1 = -(-(k_K1 + 1) * n_B11 // cells_B11)
    inside_BKT = ((position_T >= start_BK1) & (position_T < end_BK1) & mask_BT.unsqueeze(1)).float()
    return inside_BKT / inside_BKT.sum(-1, keepdim=True).clamp(min=1)


class LinearModule(TranslatorModule):
    """See the file's docstring."""

    def __init__(self, config: Linear, source_dim: int, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.config, self.target_rms = config, target_rms
        features = len(config.layers) * source_dim
        self.anchor = Anchor(features, target_dim)
        nn.init.normal_(self.anchor.map.weight, std=target_rms / features**0.5)  # until it is fitted
        self.blank_KD = nn.Parameter(torch.randn(config.soft_tokens, target_dim))

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS."""
        states_BTS, K = states_BTLS.flatten(2), self.config.soft_tokens
        chosen_BK, real_BK = picks(mask_BT.sum(1), K)
        if self.config.pooling == "picked":
            soft_BKD = self.anchor(states_BTS, chosen_BK, real_BK)
        else:
            pooled_BKS = windows(mask_BT, K) @ states_BTS.masked_fill(~mask_BT.unsqueeze(-1), 0)
            soft_BKD = self.anchor.map(pooled_BKS)
        return at_rms(torch.where(real_BK.unsqueeze(-1), soft_BKD.float(), self.blank_KD), self.target_rms)
