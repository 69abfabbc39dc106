"""Distillation: the target that reads the question as text teaches the target that reads soft tokens.

The teacher's prompt holds the question as text and the student's the soft tokens; both then read the same answer, so that
their predictions stand at the same answer positions (Hinton et al. 2015, arXiv:1503.02531). A teacher without the question
would pull the bridge away from its source.

Shapes: N answer positions of a worker's share, padding left out; V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, Read, check_positive, check_shared
from raybridge.losses.bridge import Batch, Bridge
from raybridge.models.frozen import FrozenLM
from raybridge.models.kernels import in_few
from raybridge.models.vocabulary import per_row


def kl(teacher_NV: Tensor, student_NV: Tensor, *, temperature: float) -> Tensor:
    """KL (N), in fp32 or more, from the teacher's to the student's distribution at a temperature, times its square."""
    wide = torch.promote_types(student_NV.dtype, torch.float32)
    if temperature != 1.0:  # to divide the largest tensors of a step by one takes time
        teacher_NV, student_NV = teacher_NV.to(wide) / temperature, student_NV.to(wide) / temperature
    teacher_NV, student_NV = teacher_NV.log_softmax(-1, dtype=wide), student_NV.log_softmax(-1, dtype=wide)
    return temperature**2 * (teacher_NV.exp() * (teacher_NV - student_NV)).sum(-1)


def states_kl(target: FrozenLM, teacher_ND: Tensor, student_ND: Tensor, *, temperature: float) -> Tensor:
    """KL (N) in fp32 from last hidden states; a gradient goes back to the student's."""
    kl_C = in_few(kl, target.device)

    def of_states(student_CD: Tensor, teacher_CD: Tensor) -> Tensor:
        return kl_C(target.head(teacher_CD), target.head(student_CD), temperature=temperature)

    return per_row(of_states, student_ND, teacher_ND, vocabulary=target.vocabulary)


def _tokens(batch: Batch, most: int) -> int:
    return sum(min(len(row), most) for row in batch.answers)


@dataclass(frozen=True, kw_only=True)
class TextKL(Loss):
    """KL a token from the target that reads the question as text, over the first `max_tokens` of each answer."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "text_kl"
    reads: ClassVar[frozenset[Read]] = frozenset({"answers"})
    weight: float = 0.5
    temperature: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight", "temperature")
        check_shared(self, self.max_tokens)

    def count(self, batch: Batch) -> int:
        """Answer tokens."""
        return _tokens(batch, self.max_tokens)

    def total(self, bridge: Bridge) -> Tensor:
        """Summed KL."""
        teacher_ND, student_ND = (one.states(self.max_tokens) for one in (bridge.teacher, bridge.student))
        return states_kl(bridge.target, teacher_ND, student_ND, temperature=self.temperature).sum()


@dataclass(frozen=True, kw_only=True)
class HiddenStates(Loss):
    """Mean squared difference of the last hidden states, each at unit RMS, at the first `tokens` answer positions."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "hidden_states"
    reads: ClassVar[frozenset[Read]] = frozenset({"answers"})
    weight: float = 0.1
    tokens: int = 8

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")
        check_shared(self, self.tokens)

    def count(self, batch: Batch) -> int:
        """Answer positions."""
        return _tokens(batch, self.tokens)

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over positions."""
        both = (one.states(self.tokens).float() for one in (bridge.teacher, bridge.student))
        teacher_ND, student_ND = (F.rms_norm(states_ND, states_ND.shape[-1:]) for states_ND in both)
        return (student_ND - teacher_ND).pow(2).mean(-1).sum()
