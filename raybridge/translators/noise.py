"""Noise of a diffusion translator: another draw for every question, and the same one whenever that question comes.

A random function from questions to standard normal noise, drawn once from a seed and evaluated at the question's pooled
source states (random Fourier features, Rahimi and Recht 2007). A generator seeded by an index or by a hash of the states would
give a question other noise in another batch, where its states differ in their last bits; a function that is continuous gives
the same noise to within rounding, alone or padded, on any number of workers.

Shapes: B batch, T source positions, S features of a position, M random waves, K soft tokens, D target width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WAVES = 32
BANDWIDTH = 24.0  # phase, in radians, of a pooled state at unit RMS: two questions differ by several


class NoiseField(nn.Module):
    """The random function. It has no weights, and its draw is no part of a checkpoint: the seed stands for it."""

    frequencies_SM: Tensor
    phases_M: Tensor
    mixing_ME: Tensor

    def __init__(self, source_features: int, soft_tokens: int, target_dim: int, *, seed: int) -> None:
        super().__init__()
        self.shape = soft_tokens, target_dim
        generator = torch.Generator().manual_seed(seed)
        frequencies_SM = torch.randn(source_features, WAVES, generator=generator) * BANDWIDTH / source_features**0.5
        phases_M = torch.rand(WAVES, generator=generator) * 2 * torch.pi
        mixing_ME = torch.randn(WAVES, soft_tokens * target_dim, generator=generator)
        for name, value in (("frequencies_SM", frequencies_SM), ("phases_M", phases_M), ("mixing_ME", mixing_ME)):
            self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def forward(self, states_BTS: Tensor, mask_BT: Tensor) -> Tensor:
        """Noise (B, K, D), standard normal over draws of the field; no gradient."""
        with torch.autocast(states_BTS.device.type, enabled=False):
            real_BTS = states_BTS.double().masked_fill(~mask_BT.unsqueeze(-1), 0)
            pooled_BS = real_BTS.sum(1) / mask_BT.sum(1, keepdim=True)
            waves_BM = (pooled_BS @ self.frequencies_SM.double() + self.phases_M).cos()
            weights_BM = (waves_BM / waves_BM.norm(dim=1, keepdim=True)).float()
            return (weights_BM @ self.mixing_ME).unflatten(1, self.shape)
