"""Bottlenecked translator: K learned queries read the source through gated cross-attention.

A resampler in the manner of Flamingo (Alayrac et al. 2022, arXiv:2204.14198): each block is gated self-attention, gated
cross-attention on the source states and a gated SwiGLU, all pre-normed, every gate a tanh that starts at zero.

Shapes: B batch, T source positions, L source layers, S source width or features of a position, W inner width, K soft tokens,
P of them that stand for a position, D target width, H heads, N aligned positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.config import later, typed
from raybridge.translators import OneTarget, Translator, TranslatorModule
from raybridge.translators.anchor import Anchor, Salience, one_hot, picks, windows
from raybridge.translators.narrowing import Narrowing
from raybridge.translators.parts import Attention, Norm, SwiGLU, at_rms, check, check_heads, position_features
from raybridge.translators.ridge import Moments

Picking = Literal["even", "salient", "mean"]


@dataclass(frozen=True, kw_only=True)
class Bottlenecked(OneTarget):
    """K soft tokens from the hidden states of `layers`.

    width, depth, heads: of the resampler. anchored: each soft token stands for a source position; its query starts there, and a
    closed-form linear map of the position (`Anchor`) is added to it, so that the first step already carries what was picked
    and the blocks learn the rest. picking: which positions, evenly spaced ones or those that tell most (`Salience`); "mean"
    is the mean of a window instead of one position. free_share: of the soft tokens, the last ones, that stand for none and
    are learned queries alone. narrowing: whether it is trained with more of them at first, which have a query each; fewer have
    the means of theirs.
    """

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...]
    width: int = 512
    depth: int = 4
    heads: int = 8
    anchored: bool = True
    picking: Picking = "even"
    free_share: float = 0.0
    narrowing: Narrowing | None = later(None)

    def __post_init__(self) -> None:
        typed(self)
        check(soft_tokens=self.soft_tokens, layers=self.layers)
        check_heads(width=self.width, heads=self.heads)
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {self.depth}")
        if not self.anchored and (self.picking != "even" or self.free_share):
            raise ValueError("a translator that is not anchored picks nothing: leave picking and free_share as they are")
        if not 0 <= self.free_share < 1:
            raise ValueError(f"free_share must be at least 0 and below 1, not {self.free_share}")

    @property
    def free(self) -> int:
        """Soft tokens that stand for no source position."""
        return int(self.free_share * self.soft_tokens)

    @property
    def most_soft_tokens(self) -> int:
        """Those that it begins with."""
        return self.soft_tokens * (self.narrowing.times if self.narrowing else 1)

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> BottleneckedModule:
        """The module, initialised from torch's current random state."""
        return BottleneckedModule(self, source_dim, target_dim, target_rms)


def evenly(translator: Translator) -> Translator:
    """The translator with soft token k at the k-th of evenly spaced positions, where losses and options place it on a text.

    The k-th window of a mean holds that position.
    """
    if isinstance(translator, Bottlenecked):
        return replace(translator, picking="even" if translator.picking == "salient" else translator.picking, free_share=0.0)
    return translator


class Block(nn.Module):
    """Self-attention, cross-attention and SwiGLU, each behind a tanh gate that starts closed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_norm, self.self_attention = Norm(width), Attention(width, heads)
        self.cross_norm, self.cross_attention = Norm(width), Attention(width, heads)
        self.mlp_norm, self.mlp = Norm(width), SwiGLU(width)
        self.self_gate, self.cross_gate, self.mlp_gate = (nn.Parameter(torch.zeros(())) for _ in range(3))

    def forward(self, x_BKW: Tensor, memory_BTW: Tensor, mask_BT: Tensor) -> Tensor:
        """Same shape out."""
        x = self.self_norm(x_BKW)
        x_BKW = x_BKW + self.self_gate.tanh() * self.self_attention(x, x, None)
        x_BKW = x_BKW + self.cross_gate.tanh() * self.cross_attention(self.cross_norm(x_BKW), memory_BTW, mask_BT)
        return x_BKW + self.mlp_gate.tanh() * self.mlp(self.mlp_norm(x_BKW))


class BottleneckedModule(TranslatorModule):
    """See the file's docstring."""

    POSITION_FEATURES = 32

    def __init__(self, config: Bottlenecked, source_dim: int, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.config, self.target_rms = config, target_rms
        self.read = nn.Linear(len(config.layers) * source_dim + self.POSITION_FEATURES, config.width)
        self.memory_norm = Norm(config.width)
        self.times = 1  # K soft tokens
        self.queries_KW = nn.Parameter(nn.init.orthogonal_(torch.empty(config.most_soft_tokens, config.width)))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.out_norm = Norm(config.width)
        self.out = nn.Linear(config.width, target_dim)
        self.anchor = Anchor(len(config.layers) * source_dim, target_dim) if config.anchored else None
        self.salience = Salience(len(config.layers) * source_dim) if config.picking == "salient" else None
        if config.anchored:  # what is learned starts as a tenth of what is fitted
            nn.init.normal_(self.out.weight, std=0.1 / config.width**0.5)
            nn.init.zeros_(self.out.bias)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS."""
        states_BTS = states_BTLS.flatten(2)
        features_BTF = position_features(mask_BT, self.POSITION_FEATURES)
        memory_BTW = self.memory_norm(self.read(torch.cat([states_BTS, features_BTF], dim=-1)))
        x_BKW = self.queries_KW.unflatten(0, (self.soft_tokens, -1)).mean(1).expand(len(states_BTS), -1, -1)
        if self.anchor is not None:
            weights_BPT = self.standing(states_BTS, mask_BT)
            x_BKW = x_BKW + F.pad(weights_BPT.to(memory_BTW.dtype) @ memory_BTW, (0, 0, 0, self.free))
        for block in self.blocks:
            x_BKW = block(x_BKW, memory_BTW, mask_BT)
        soft_BKD = self.out(self.out_norm(x_BKW)).float()
        if self.anchor is not None:
            soft_BKD = soft_BKD + F.pad(self.anchor(weights_BPT, states_BTS), (0, 0, 0, self.free))
        return at_rms(soft_BKD, self.target_rms)

    def trained_for(self, done: float) -> None:
        """Write as many soft tokens as belong there."""
        self.times = self.config.narrowing.times_at(done) if self.config.narrowing else 1

    @property
    def soft_tokens(self) -> int:
        """How many it writes now."""
        return self.times * self.config.soft_tokens

    @property
    def free(self) -> int:
        """Those of them that stand for no source position."""
        return self.times * self.config.free

    @property
    def fitted_from(self) -> frozenset[str]:
        """Embeddings for the anchor, NLLs for what tells most."""
        parts = {"embeddings": self.anchor, "nll": self.salience}
        return frozenset(name for name, part in parts.items() if part is not None)

    def fit(self, moments: Moments) -> None:
        """Fit what there is of the two."""
        for part in (self.anchor, self.salience):
            if part is not None:
                part.fit(moments)

    @property
    def stands_evenly(self) -> bool:
        """Not where positions are picked by what they tell, nor where some soft tokens are free."""
        return self.salience is None and not self.config.free

    def standing(self, states_BTS: Tensor, mask_BT: Tensor) -> Tensor:
        """Weights (B, P, T) of the source positions that the soft tokens which are not free stand for."""
        P = self.soft_tokens - self.free
        if self.config.picking == "mean":
            return windows(mask_BT, P)
        if self.salience is not None:
            return one_hot(*self.salience.picks(states_BTS, mask_BT, P), mask_BT)
        return one_hot(*picks(mask_BT.sum(1), P), mask_BT)
