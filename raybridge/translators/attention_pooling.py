"""Attention pooling: K learned queries, one multi-head attention over the source, a linear map.

The smallest translator that can choose what it reads (the pooling of Set Transformers, Lee et al. 2019, arXiv:1810.00825).

Shapes: B batch, T source positions, L source layers, S source width, W inner width, K soft tokens, D target width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from raybridge.config import typed
from raybridge.translators import OneTarget, TranslatorModule
from raybridge.translators.parts import Attention, Norm, Reader, at_rms, check, check_heads


@dataclass(frozen=True, kw_only=True)
class AttentionPooling(OneTarget):
    """K soft tokens from one attention over the hidden states of `layers`. width, heads: of the attention."""

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...]
    width: int = 512
    heads: int = 8

    def __post_init__(self) -> None:
        typed(self)
        check(soft_tokens=self.soft_tokens, layers=self.layers)
        check_heads(width=self.width, heads=self.heads)

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> AttentionPoolingModule:
        """The module, initialised from torch's current random state."""
        return AttentionPoolingModule(self, source_dim, target_dim, target_rms)


class AttentionPoolingModule(TranslatorModule):
    """See the file's docstring."""

    def __init__(self, config: AttentionPooling, source_dim: int, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.target_rms = target_rms
        self.reader = Reader(len(config.layers) * source_dim, config.width)
        self.queries_KW = nn.Parameter(nn.init.orthogonal_(torch.empty(config.soft_tokens, config.width), config.width**0.5))
        self.attention = Attention(config.width, config.heads)
        self.norm = Norm(config.width)
        self.out = nn.Linear(config.width, target_dim)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS."""
        queries_BKW = self.queries_KW.expand(len(mask_BT), -1, -1)
        pooled_BKW = self.attention(queries_BKW, self.reader(states_BTLS, mask_BT), mask_BT)
        return at_rms(self.out(self.norm(pooled_BKW)).float(), self.target_rms)
