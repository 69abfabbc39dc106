"""What several translators are built of: norm, attention, feed-forward, position features, and the RMS of what they write.

Shapes: B batch, T source positions, L source layers, S source width, W inner width, K soft tokens, D target width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def check(*, soft_tokens: int, layers: tuple[int, ...]) -> None:
    """Refuse what no translator can be: no soft tokens, no layer to read or one read twice."""
    if soft_tokens < 1:
        raise ValueError(f"soft_tokens must be at least 1, not {soft_tokens}")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must name at least one hidden layer, each once, not {layers}")


def check_heads(*, width: int, heads: int) -> None:
    """Refuse a width that heads cannot share."""
    if heads < 1 or width < heads or width % heads:
        raise ValueError(f"width {width} must be a multiple of heads {heads}, and both at least 1")


def at_rms(soft_BKD: Tensor, rms: float) -> Tensor:
    """Every soft token at this RMS, however small it was."""
    return F.rms_norm(soft_BKD, soft_BKD.shape[-1:], eps=1e-12) * rms


def zero_linear(width_in: int, width_out: int) -> nn.Linear:
    """A linear layer that starts at zero."""
    layer = nn.Linear(width_in, width_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Norm(nn.RMSNorm):
    """RMSNorm in the precision of its input: under autocast its weight follows."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Multi-head attention from queries (B, K, W) to a memory (B, T, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BKW: Tensor, memory_BTW: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Attended memory (B, K, W)."""
        q = self._split(self.query(x_BKW))
        k, v = (self._split(half) for half in self.key_value(memory_BTW).chunk(2, dim=-1))
        mask = None if mask_BT is None else mask_BT[:, None, None, :]
        attended_BHKW = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(attended_BHKW.transpose(1, 2).flatten(2))

    def _split(self, x_BTW: Tensor) -> Tensor:
        return x_BTW.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """Gated feed-forward (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 8 * width // 3
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x_BKW: Tensor) -> Tensor:
        """Same shape out."""
        gate, up = self.gate_up(x_BKW).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


def position_features(mask_BT: Tensor, width: int) -> Tensor:
    """Sinusoids (B, T, width) of each position's index (in 512ths) and of its share of the sequence, half and half."""
    index_BT = (mask_BT.float().cumsum(1) - 1).clamp(min=0)
    share_BT = index_BT / (mask_BT.sum(1, keepdim=True).float() - 1).clamp(min=1)
    octaves = torch.pi * 2.0 ** torch.arange(width // 4, device=mask_BT.device)
    angles_BTF = torch.cat([index_BT.unsqueeze(-1) / 512 * octaves, share_BT.unsqueeze(-1) * octaves], dim=-1)
    return torch.cat([angles_BTF.sin(), angles_BTF.cos()], dim=-1)


class Reader(nn.Module):
    """What a translator attends to: the chosen layers and the position of each source position, as one memory (B, T, W)."""

    POSITION_FEATURES = 32

    def __init__(self, source_features: int, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(source_features + self.POSITION_FEATURES, width)
        self.norm = Norm(width)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """The memory (B, T, W)."""
        features_BTF = position_features(mask_BT, self.POSITION_FEATURES)
        return self.norm(self.read(torch.cat([states_BTLS.flatten(2), features_BTF], dim=-1)))
