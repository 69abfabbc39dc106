"""What a loss that compares problems sees of all of them, whichever worker has which.

It is gathered once a step, before the first pass of the target: a worker may need more passes for its share than another, and
none waits for another between two of them.

Shapes: N problems of the global batch, B of one worker, T positions, K soft tokens, D target width or features of a position,
Y features of a source position (layers x width).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Everyone:
    """All problems of the global batch, one worker's behind another's. Gradients go back through soft_NKD alone.

    questions_ND: mean embedding of a question's own tokens before the target. states_NY: mean source state of a question.
    """

    soft_NKD: Tensor
    questions_ND: Tensor
    states_NY: Tensor


def mean_of_real(values_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean (B, D) over the real positions, in fp32."""
    weight_BT1 = mask_BT.float().unsqueeze(-1)
    return (values_BTD.float() * weight_BT1).sum(1) / weight_BT1.sum(1)
