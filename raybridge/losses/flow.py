"""Flow loss: a diffusion translator learns the velocity from noise to a teacher's tokens.

Shapes: N problems of the global batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import Batch, Bridge
from raybridge.translators.anchor import picks
from raybridge.translators.dit import DiTModule

Teacher = Literal["prompt", "answer"]


def flow_error(velocity_BKD: Tensor, teacher_BKD: Tensor, noise_BKD: Tensor, real_BK: Tensor) -> Tensor:
    """Squared error (B) of the velocity of a straight line from noise to the teacher, mean over D and the real tokens."""
    error_BK = (velocity_BKD - (teacher_BKD - noise_BKD)).pow(2).mean(-1)
    return (error_BK * real_BK).sum(1) / real_BK.sum(1)


@dataclass(frozen=True, kw_only=True)
class Flow(Loss):
    """Rectified flow towards the target's embeddings of the question (`prompt`) or of the worked answer (`answer`).

    A teacher longer than K is picked evenly; where it is shorter the soft tokens left over are not taught. The teacher's
    tokens reach the velocity in this term alone, never the soft tokens that other terms and evaluations judge.
    condition_dropout: share of problems whose condition is withheld, which guidance needs.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "flow"
    weight: float = 1.0
    teacher: Teacher = "prompt"
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight")
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"loss flow: condition_dropout must lie in 0..1, 1 excluded, not {self.condition_dropout}")

    def count(self, batch: Batch) -> int:
        """Problems."""
        return len(batch.answers)

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over problems."""
        module = bridge.module.core
        if not isinstance(module, DiTModule):
            raise ValueError(f"loss flow needs a translator that is a flow (DiT, HybridDiT), not {type(module).__name__}")
        teacher_BKD, real_BK = self.teacher_tokens(bridge)
        noise_BKD, time_B, withheld_B = self.draws(bridge)
        time_B11, real_BK1 = time_B[:, None, None], real_BK.unsqueeze(-1)
        x_BKD = torch.where(real_BK1, (1 - time_B11) * noise_BKD + time_B11 * teacher_BKD, noise_BKD)
        with torch.autocast(x_BKD.device.type, dtype=torch.bfloat16, enabled=x_BKD.device.type == "cuda"):
            condition = module.dropped(
                module.condition(bridge.module.core_states(bridge.states_BTLS), bridge.mask_BT), withheld_B
            )
            velocity_BKD = module.velocity(x_BKD, time_B, condition)
        return flow_error(velocity_BKD, teacher_BKD, noise_BKD, real_BK).sum()

    def teacher_tokens(self, bridge: Bridge) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings (B, K, D) at unit RMS, and which soft tokens have one."""
        piece = bridge.question if self.teacher == "prompt" else bridge.target.text_piece(bridge.batch.answers)
        chosen_BK, real_BK = picks(piece.mask_BT.sum(1), bridge.soft_BKD.shape[1])
        picked_BKD = piece.embeds_BTD.float().gather(1, chosen_BK.unsqueeze(-1).expand(-1, -1, piece.embeds_BTD.shape[-1]))
        return F.rms_norm(picked_BKD, picked_BKD.shape[-1:]), real_BK

    def draws(self, bridge: Bridge) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, times and withheld conditions of these problems: drawn for the global batch, whoever has which."""
        noise_NKD, times_N, withheld_N = drawn(
            bridge.seed * 1_000_003 + bridge.step, bridge.problems, *bridge.soft_BKD.shape[1:], dropout=self.condition_dropout
        )
        places, device = list(bridge.batch.places), bridge.soft_BKD.device
        return noise_NKD[places].to(device), times_N[places].to(device), withheld_N[places].to(device)


@lru_cache(maxsize=1)
def drawn(seed: int, problems: int, soft_tokens: int, width: int, *, dropout: float) -> tuple[Tensor, Tensor, Tensor]:
    """Noise (N, K, D), times (N) and whose condition is withheld (N); kept for the other parts of the same batch."""
    generator = torch.Generator().manual_seed(seed)
    times_N, withheld_N = torch.rand(problems, generator=generator), torch.rand(problems, generator=generator) < dropout
    return torch.randn(problems, soft_tokens, width, generator=generator), times_N, withheld_N
