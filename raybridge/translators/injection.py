"""Hybrid conditioning inside the target: small adapters inject what the translator wrote into chosen hidden states.

The target's weights stay as they are; each adapter starts closed (tanh of a gate at zero, as in Flamingo, Alayrac et al. 2022,
arXiv:2204.14198), so that training starts from the target that reads the question as text.

Shapes: B batch, T tokens of the question in the target, K soft tokens, D target width, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.models.pieces import Piece
from raybridge.translators import TranslatorModule
from raybridge.translators.anchor import placed
from raybridge.translators.options import OntoText, OntoTextModule


@dataclass(frozen=True, kw_only=True)
class Injection(OntoText):
    """A translator whose soft tokens reach the question tokens they stand for inside the target (see `OntoText`).

    target_layers: numbers of the target's hidden states that are added to, 0 (embeddings) to its depth - 1. rank: of the maps.
    """

    VERSION: ClassVar[int] = 1

    target_layers: tuple[int, ...]
    rank: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target_layers or len(set(self.target_layers)) < len(self.target_layers) or min(self.target_layers) < 0:
            raise ValueError(
                f"translator Injection: target_layers must name hidden states from 0, each once, not {self.target_layers}"
            )
        if self.rank < 1:
            raise ValueError(f"translator Injection: rank must be at least 1, not {self.rank}")

    @property
    def adds_to(self) -> tuple[int, ...]:
        """The layers of the target."""
        return self.target_layers

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> InjectionModule:
        """The module, initialised from torch's current random state."""
        return InjectionModule(self, self.translator.build(source_dim, target_dim, target_rms=target_rms), target_dim)


class LowRank(nn.Module):
    """From soft tokens (B, K, D) to what one hidden state is added to, at the RMS tanh(gate)."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, soft_BKD: Tensor) -> Tensor:
        """Same shape out, fp32."""
        unit_BKD = F.rms_norm(soft_BKD.float(), soft_BKD.shape[-1:])
        return self.gate.tanh() * F.rms_norm(self.up(F.silu(self.down(unit_BKD))), soft_BKD.shape[-1:])


class InjectionModule(OntoTextModule):
    """See `Injection`."""

    def __init__(self, config: Injection, inner: TranslatorModule, target_dim: int) -> None:
        super().__init__(inner)
        self.target_layers = config.target_layers
        self.adapters = nn.ModuleList(LowRank(target_dim, config.rank) for _ in config.target_layers)

    def onto(self, question: Piece, soft_BKD: Tensor) -> Piece:
        """The question, its embeddings as they are, with what is injected into the layers behind them."""
        injected = {
            layer: placed(adapter(soft_BKD), question.mask_BT)
            for layer, adapter in zip(self.target_layers, self.adapters, strict=True)
        }
        return replace(question, injected=injected)
