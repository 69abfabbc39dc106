"""A closed-form start: ridge regression from source states to the target embedding of the aligned token.

Shapes: B batch, T source positions, S features of a source position (layers x width), D target width, K soft tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.translators.ridge import Moments


def picks(lengths_B: Tensor, soft_tokens: int) -> tuple[Tensor, Tensor]:
    """Source positions (B, K) that K soft tokens stand for, and which of them stand for one.

    A question longer than K is picked evenly, first and last position included; in a shorter one soft token k stands
    for position k and the rest for none.
    """
    k = torch.arange(soft_tokens, device=lengths_B.device)
    last_B1 = (lengths_B - 1).unsqueeze(1)
    even = (k * last_B1 + (soft_tokens - 1) // 2) // max(soft_tokens - 1, 1)
    chosen_BK = torch.where(last_B1 < soft_tokens, k.minimum(last_B1), even)
    return chosen_BK, (k <= last_B1) | (last_B1 >= soft_tokens)


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


def one_hot(chosen_BK: Tensor, real_BK: Tensor, mask_BT: Tensor) -> Tensor:
    """Picked positions as weights (B, K, T); a soft token that stands for none has no weight."""
    return F.one_hot(chosen_BK, mask_BT.shape[1]).float() * real_BK.unsqueeze(-1)


def placed(values_BKD: Tensor, mask_BT: Tensor) -> Tensor:
    """Values of soft tokens at the tokens (B, T, D) they stand for (see `picks`); zero elsewhere."""
    chosen_BK, real_BK = picks(mask_BT.sum(1), values_BKD.shape[1])
    values_BKD = values_BKD * real_BK.unsqueeze(-1)
    zeros_BTD = values_BKD.new_zeros(*mask_BT.shape, values_BKD.shape[-1])
    return zeros_BTD.scatter_add(1, chosen_BK.unsqueeze(-1).expand_as(values_BKD), values_BKD)


class Anchor(nn.Module):
    """Linear map of the source positions that soft tokens stand for; zero until it is fitted."""

    def __init__(self, source_features: int, target_dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(source_features, target_dim)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    @torch.no_grad()
    def fit(self, moments: Moments) -> None:
        """Set the map in closed form, onto embeddings brought to unit RMS as a whole.

        Embeddings have an RMS of 0.13 in one target and of 1.03 in another, and an optimizer's steps the size of the learning
        rate in both: a map fitted to the smaller ones is overthrown by the first of them.
        """
        weight_DS, bias_D = moments.ridge("embeddings")
        rms = moments.rms("embeddings")
        self.map.weight.copy_(weight_DS / rms)
        self.map.bias.copy_(bias_D / rms)

    def forward(self, weights_BKT: Tensor, states_BTS: Tensor) -> Tensor:
        """Mapped means (B, K, D) of the positions that soft tokens stand for; zero where one stands for none."""
        return self.map(weights_BKT @ states_BTS) * weights_BKT.any(-1, keepdim=True)


class Salience(nn.Module):
    """How much a source position tells: the NLL of its token to a target that reads the text, as a ridge map of its states.

    What the target would guess need not be sent. Fitted in closed form and never trained: which positions are picked has
    no gradient. The same everywhere until it is fitted, when the first ones are picked.
    """

    weight_S: Tensor

    def __init__(self, source_features: int) -> None:
        super().__init__()
        self.register_buffer("weight_S", torch.zeros(source_features))

    @torch.no_grad()
    def fit(self, moments: Moments) -> None:
        """Set the map in closed form."""
        weight_1S, _ = moments.ridge("nll")  # what is added to all of them changes no order
        self.weight_S.copy_(weight_1S.squeeze(0))

    @torch.no_grad()
    def picks(self, states_BTS: Tensor, mask_BT: Tensor, soft_tokens: int) -> tuple[Tensor, Tensor]:
        """The K positions (B, K) that tell most, in their order, and which soft tokens stand for one."""
        even_BK, real_BK = picks(mask_BT.sum(1), soft_tokens)
        if mask_BT.shape[1] <= soft_tokens:
            return even_BK, real_BK
        with torch.autocast(states_BTS.device.type, enabled=False):
            nll_BT = (states_BTS.float() @ self.weight_S).masked_fill(~mask_BT, -torch.inf)
        most_BK = nll_BT.sort(dim=1, descending=True, stable=True).indices[:, :soft_tokens].sort(dim=1).values
        long_B1 = mask_BT.sum(1, keepdim=True) > soft_tokens
        return torch.where(long_B1, most_BK, even_BK), real_BK
