"""Contrastive losses: soft tokens must be nearer to their own question than to the others of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, Read, check_positive, check_shared
from raybridge.losses.bridge import Batch, Bridge, cut
from raybridge.losses.next_token import answer_nll
from raybridge.models.pieces import sent


def info_nce(queries_BD: Tensor, keys_ND: Tensor, labels_B: Tensor, *, temperature: float) -> Tensor:
    """Sum over B of the cross-entropy of each query against all keys, by cosine, in fp32 (arXiv:1807.03748)."""
    similarity_BN = F.normalize(queries_BD.float(), dim=-1) @ F.normalize(keys_ND.float(), dim=-1).T
    return F.cross_entropy(similarity_BN / temperature, labels_B, reduction="sum")


@dataclass(frozen=True, kw_only=True)
class InfoNCE(Loss):
    """Mean soft token against the mean target embedding of every question of the global batch.

    Only the question's own tokens are pooled: a prefix that all prompts share would make all keys equal. Both sides
    are centred on the global batch, which removes what all questions have in common. On after half of warm-up.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "info_nce"
    weight: float = 0.05
    temperature: float = 0.07

    def __post_init__(self) -> None:
        typed(self)
        if self.weight <= 0 or self.temperature <= 0:
            raise ValueError(f"loss info_nce: weight and temperature must be above 0, not {self.weight} and {self.temperature}")

    @property
    def compares(self) -> bool:
        """True: its keys are the questions of the global batch."""
        return True

    def starts(self, *, warmup: int) -> int:
        """After half of warm-up."""
        return warmup // 2

    def count(self, batch: Batch) -> int:
        """Questions."""
        return len(batch.target_questions)

    def total(self, bridge: Bridge) -> Tensor:
        """Summed cross-entropy of these questions against those of the global batch."""
        everyone, place = bridge.everyone, bridge.place
        queries_BD, queries_ND = bridge.soft_BKD.float().mean(1), everyone.soft_NKD.float().mean(1)
        keys_ND = everyone.questions_ND - everyone.questions_ND.mean(0)
        labels_B = torch.arange(place.start, place.stop, device=keys_ND.device)
        return info_nce(queries_BD - queries_ND.mean(0), keys_ND, labels_B, temperature=self.temperature)


@dataclass(frozen=True, kw_only=True)
class PromptContrast(Loss):
    """An answer must be likelier after its own problem's soft tokens than after those of the next problem of the batch.

    softplus(margin - gap) a problem, with gap = NLL a token after the other's soft tokens minus NLL after its own, over the
    first `max_tokens` of the answer. What both prompts teach alike, such as the answer's format, cancels. A text without an
    answer counts for nothing.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "prompt_contrast"
    reads: ClassVar[frozenset[Read]] = frozenset({"answers"})
    weight: float = 0.1
    margin: float = 1.0
    max_tokens: int = 64

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")
        check_shared(self, self.max_tokens)

    @property
    def compares(self) -> bool:
        """True: the next problem may be another worker's."""
        return True

    def starts(self, *, warmup: int) -> int:
        """After half of warm-up."""
        return warmup // 2

    def count(self, batch: Batch) -> int:
        """Problems with an answer."""
        return sum(map(bool, batch.answers))

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over problems; the next one may be another worker's."""
        rows = cut(bridge.batch.answers, self.max_tokens)
        soft_NKD = bridge.everyone.soft_NKD
        place_of = {place: number for number, place in enumerate(bridge.batch.order)}
        following = [place_of[(place + 1) % len(place_of)] for place in bridge.batch.places]
        next_B = sent(torch.tensor(following), soft_NKD.device)
        other = bridge.target.soft_piece(soft_NKD[next_B])
        other_B = bridge.read(bridge.behind(other), rows).nll.sum(1)
        lengths_B = sent(torch.tensor(list(map(len, rows))), soft_NKD.device)
        gap_B = (other_B - answer_nll(bridge, self.max_tokens).sum(1)) / lengths_B.clamp(min=1)
        return (F.softplus(self.margin - gap_B) * lengths_B.bool()).sum()
