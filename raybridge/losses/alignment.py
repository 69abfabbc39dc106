"""Alignment losses: soft tokens beside the question itself, as the target's embeddings or as the source's states.

Shapes: N problems of the global batch, F features of a problem's soft tokens, Y features of what they should predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import Batch, Bridge
from raybridge.translators.anchor import picks
from raybridge.translators.options import check_stands_evenly

PENALTY = 0.1  # of the probe's ridge, in mean squared norms of its features


def alignment(soft_BKD: Tensor, embeds_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """1 - cosine (B) of each soft token and the question token it stands for, mean over those that stand for one.

    Soft tokens stand for evenly picked tokens of a question longer than K, and for its tokens in order in a shorter one.
    """
    chosen_BK, real_BK = picks(mask_BT.sum(1), soft_BKD.shape[1])
    picked_BKD = embeds_BTD.gather(1, chosen_BK.unsqueeze(-1).expand(-1, -1, embeds_BTD.shape[-1]))
    cosine_BK = F.cosine_similarity(soft_BKD.float(), picked_BKD.float(), dim=-1)
    return ((1 - cosine_BK) * real_BK).sum(1) / real_BK.sum(1)


@dataclass(frozen=True, kw_only=True)
class PromptAlignment(Loss):
    """Each soft token towards the target's embedding of the question token it stands for; see `alignment`."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "prompt_alignment"
    weight: float = 0.001

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")

    def count(self, batch: Batch) -> int:
        """Questions."""
        return len(batch.target_questions)

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over questions."""
        check_stands_evenly(bridge.module.core, "loss prompt_alignment pulls soft token k towards")
        return alignment(bridge.soft_BKD, bridge.question.embeds_BTD, bridge.question.mask_BT).sum()


def left_out_errors(features_NF: Tensor, wanted_NY: Tensor) -> Tensor:
    """Squared error (N), mean over Y, of ridge regression of each row on the features of all other rows.

    In closed form (Allen 1974's PRESS): with G = XX' + penalty, row i's error is (G^-1 Y)_i / (G^-1)_ii. Differentiable.
    """
    x, y = features_NF.double(), wanted_NY.double()
    x = x - x.mean(0)
    gram_NN = x @ x.T
    gram_NN = gram_NN / gram_NN.diagonal().mean().clamp(min=1e-12) + 10  # the constant is the intercept's feature
    inverse_NN = torch.linalg.inv(gram_NN + PENALTY * torch.eye(len(x), dtype=x.dtype, device=x.device))
    errors_NY = inverse_NN @ y / inverse_NN.diagonal().unsqueeze(1)
    return errors_NY.pow(2).mean(-1)


@dataclass(frozen=True, kw_only=True)
class SourceProbe(Loss):
    """How badly a linear probe predicts the pooled source question from the soft tokens, as a share of its variance.

    The probe is fitted in closed form on the other problems of the global batch, so it has no weights that could learn in
    the translator's place. 1 means that the soft tokens say nothing about their question.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "source_probe"
    weight: float = 0.1

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")

    @property
    def compares(self) -> bool:
        """True: the probe is fitted on the other problems."""
        return True

    def count(self, batch: Batch) -> int:
        """Questions."""
        return len(batch.source_questions)

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over questions."""
        wanted_NY = bridge.everyone.states_NY
        errors_N = left_out_errors(bridge.everyone.soft_NKD.flatten(1), wanted_NY)
        variance = (wanted_NY - wanted_NY.mean(0)).pow(2).mean()
        return (errors_N[bridge.place].sum() / variance).float()
