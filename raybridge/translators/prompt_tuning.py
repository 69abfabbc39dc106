"""Prompt tuning: K learned soft tokens that ignore the source (Lester et al. 2021, arXiv:2104.08691).

The constant-prompt control: what it gains is the format of the answers, and every bridge must beat it. Its shuffled
control scores exactly as it does.

Shapes: B batch, T source positions, L source layers, S source width, K soft tokens, D target width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from raybridge.config import typed
from raybridge.translators import OneTarget, TranslatorModule
from raybridge.translators.parts import at_rms, check


@dataclass(frozen=True, kw_only=True)
class PromptTuning(OneTarget):
    """K soft tokens, the same for every question. layers: read and ignored, so that it can stand in any sweep."""

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        typed(self)
        check(soft_tokens=self.soft_tokens, layers=self.layers)

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> PromptTuningModule:
        """The module, initialised from torch's current random state."""
        return PromptTuningModule(self, target_dim, target_rms)


class PromptTuningModule(TranslatorModule):
    """See the file's docstring."""

    def __init__(self, config: PromptTuning, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.target_rms = target_rms
        self.soft_KD = nn.Parameter(torch.randn(config.soft_tokens, target_dim))

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS."""
        return at_rms(self.soft_KD, self.target_rms).expand(len(mask_BT), -1, -1)
