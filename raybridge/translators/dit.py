"""Diffusion translator: rectified flow over K target-space tokens, conditioned on the question's source states.

A diffusion transformer with AdaLN-Zero blocks (Peebles and Xie 2022, arXiv:2212.09748) gives the velocity of a rectified flow
(Liu et al. 2022, arXiv:2209.03003) from noise at time 0 to soft tokens at unit RMS at time 1; `losses.flow` trains it.
Soft tokens are sampled from noise and source states alone, in training as in evaluation: a teacher's tokens enter the flow
loss and nothing else, so the losses that judge soft tokens never see them.

Shapes: B batch, T source positions, L source layers, S source width, W inner width, K soft tokens, D target width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.config import typed
from raybridge.translators import OneTarget, TranslatorModule
from raybridge.translators.noise import NoiseField
from raybridge.translators.parts import Attention, Reader, SwiGLU, at_rms, check, check_heads, zero_linear

Pooling = Literal["mean", "attention"]


@dataclass(frozen=True, kw_only=True)
class DiT(OneTarget):
    """K soft tokens sampled in a few Euler steps, conditioned on `layers` pooled over the question's tokens.

    train_steps: of the sampler; training goes back through all of them. eval_steps: None for as many: losses that judge soft
    tokens through few steps teach nothing of what comes out of more. guidance: of evaluation (Ho and Salimans 2022,
    arXiv:2207.12598); 1 is none, and more doubles its cost and needs a flow loss with condition dropout. noise_seed: of the
    noise, which is another one for every question and always the same for one.
    """

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...]
    width: int = 512
    depth: int = 6
    heads: int = 8
    pooling: Pooling = "attention"
    train_steps: int = 2
    eval_steps: int | None = None
    guidance: float = 1.0
    noise_seed: int = 0

    def __post_init__(self) -> None:
        typed(self)
        check(soft_tokens=self.soft_tokens, layers=self.layers)
        check_heads(width=self.width, heads=self.heads)
        if self.depth < 1 or self.train_steps < 1 or (self.eval_steps is not None and self.eval_steps < 1) or self.width % 2:
            raise ValueError("translator DiT: depth, train_steps and eval_steps must be at least 1, and width even")
        if self.guidance < 1:
            raise ValueError(f"translator DiT: guidance must be at least 1 (1 is none), not {self.guidance}")

    def steps(self, *, training: bool) -> int:
        """Of the sampler."""
        return self.train_steps if training or self.eval_steps is None else self.eval_steps

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> DiTModule:
        """The module, initialised from torch's current random state."""
        return DiTModule(self, source_dim, target_dim, target_rms, block=Block)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What the flow knows of a question: each position (B, T, W), which are real (B, T), and all of them pooled (B, W)."""

    memory_BTW: Tensor
    mask_BT: Tensor
    pooled_BW: Tensor


class Block(nn.Module):
    """Self-attention and SwiGLU, each normed, shifted, scaled and gated by the condition; all gates start closed."""

    BRANCHES = 2

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(width, heads), SwiGLU(width)
        self.modulation = zero_linear(width, 3 * width * self.BRANCHES)

    def branches(self, condition: Condition) -> list[Callable[[Tensor], Tensor]]:
        """The residual branches, in order."""
        return [lambda x: self.attention(x, x, None), self.mlp]

    def forward(self, x_BKW: Tensor, steering_BW: Tensor, condition: Condition) -> Tensor:
        """Same shape out."""
        parts = self.modulation(F.silu(steering_BW)).unsqueeze(1).chunk(3 * self.BRANCHES, dim=-1)
        for branch, shift, scale, gate in zip(self.branches(condition), parts[::3], parts[1::3], parts[2::3], strict=True):
            x_BKW = x_BKW + gate * branch(modulated(x_BKW, shift, scale))
        return x_BKW


def modulated(x_BKW: Tensor, shift_B1W: Tensor, scale_B1W: Tensor) -> Tensor:
    """Normed without weights of its own, then scaled and shifted."""
    return F.layer_norm(x_BKW, x_BKW.shape[-1:]) * (1 + scale_B1W) + shift_B1W


def time_features(time_B: Tensor, width: int) -> Tensor:
    """Sinusoids (B, width) of times in 0..1, from one turn in 6 to a thousand radians."""
    frequency = 1000.0 ** torch.linspace(0, 1, width // 2, device=time_B.device)
    angles = time_B.unsqueeze(1) * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class DiTModule(TranslatorModule):
    """See the file's docstring."""

    def __init__(self, config: DiT, source_dim: int, target_dim: int, target_rms: float, *, block: type[Block]) -> None:
        super().__init__()
        W = config.width
        self.config, self.target_rms = config, target_rms
        self.noise = NoiseField(len(config.layers) * source_dim, config.soft_tokens, target_dim, seed=config.noise_seed)
        self.reader = Reader(len(config.layers) * source_dim, W)
        if config.pooling == "attention":
            self.pool_query_1W = nn.Parameter(torch.randn(1, W))
            self.pool = Attention(W, config.heads)
        self.null_W = nn.Parameter(0.02 * torch.randn(W))  # stands for a condition that was dropped
        self.time = nn.Sequential(nn.Linear(W, W), nn.SiLU(), nn.Linear(W, W))
        self.read_tokens = nn.Linear(target_dim, W)
        self.places_KW = nn.Parameter(0.02 * torch.randn(config.soft_tokens, W))
        self.blocks = nn.ModuleList(block(W, config.heads) for _ in range(config.depth))
        self.out_modulation = zero_linear(W, 2 * W)
        self.out = zero_linear(W, target_dim)

    def condition(self, states_BTLS: Tensor, mask_BT: Tensor) -> Condition:
        """The source states as the flow uses them."""
        memory_BTW = self.reader(states_BTLS, mask_BT)
        if self.config.pooling == "attention":
            query_B1W = self.pool_query_1W.expand(len(mask_BT), 1, -1)
            pooled_BW = self.pool(query_B1W, memory_BTW, mask_BT).squeeze(1)
        else:
            real_BTW = memory_BTW.masked_fill(~mask_BT.unsqueeze(-1), 0)
            pooled_BW = real_BTW.sum(1) / mask_BT.sum(1, keepdim=True)
        return Condition(memory_BTW=memory_BTW, mask_BT=mask_BT, pooled_BW=pooled_BW)

    def dropped(self, condition: Condition, which_B: Tensor) -> Condition:
        """The condition with the learned null in place of some rows."""
        null_W = self.null_W.to(condition.memory_BTW.dtype)
        return Condition(
            memory_BTW=torch.where(which_B[:, None, None], null_W, condition.memory_BTW),
            mask_BT=condition.mask_BT,
            pooled_BW=torch.where(which_B[:, None], null_W, condition.pooled_BW),
        )

    def nothing(self, rows: int, dtype: torch.dtype) -> Condition:
        """What `dropped` makes of rows, in one position: attention over many that are equal gives the same."""
        null_BW = self.null_W.to(dtype).expand(rows, -1)
        mask_B1 = torch.ones(rows, 1, dtype=torch.bool, device=null_BW.device)
        return Condition(memory_BTW=null_BW.unsqueeze(1), mask_BT=mask_B1, pooled_BW=null_BW)

    def velocity(self, x_BKD: Tensor, time_B: Tensor, condition: Condition) -> Tensor:
        """Velocity (B, K, D) at points of the flow and their times."""
        steering_BW = self.time(time_features(time_B, self.config.width)) + condition.pooled_BW
        x_BKW = self.read_tokens(x_BKD) + self.places_KW
        for block in self.blocks:
            x_BKW = block(x_BKW, steering_BW, condition)
        shift, scale = self.out_modulation(F.silu(steering_BW)).unsqueeze(1).chunk(2, dim=-1)
        return self.out(modulated(x_BKW, shift, scale)).float()

    def guided(self, x_BKD: Tensor, time_B: Tensor, condition: Condition) -> Tensor:
        """Velocity pushed away from what the flow would do without a condition."""
        velocity_BKD = self.velocity(x_BKD, time_B, condition)
        if self.training or self.config.guidance == 1:
            return velocity_BKD
        unconditional_BKD = self.velocity(x_BKD, time_B, self.nothing(len(time_B), condition.memory_BTW.dtype))
        return unconditional_BKD + self.config.guidance * (velocity_BKD - unconditional_BKD)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D), each at the target's embedding RMS: the end of the flow from this question's noise."""
        x_BKD = self.noise(states_BTLS.flatten(2), mask_BT)
        condition = self.condition(states_BTLS, mask_BT)
        steps = self.config.steps(training=self.training)
        for step in range(steps):
            time_B = torch.full((len(x_BKD),), step / steps, device=x_BKD.device)
            x_BKD = x_BKD + self.guided(x_BKD, time_B, condition) / steps
        return at_rms(x_BKD, self.target_rms)
