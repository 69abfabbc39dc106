"""Decode-aware supervision: the target decodes freely from soft tokens, and is taught along what it decoded.

Teacher forcing never sees what a bridge writes after its own first mistake. Here the target that reads the question as text
is the teacher on the student's own completion (on-policy distillation, Agarwal et al. 2023, arXiv:2306.13649): decoding itself
has no gradient, the KL at every decoded position has one, through the student's pass over its completion to the soft tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from raybridge.config import typed
from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import Batch, Bridge
from raybridge.losses.distillation import states_kl


@torch.no_grad()
def decoded(bridge: Bridge, tokens: int) -> list[list[int]]:
    """What the target writes greedily after the soft tokens, each row with its end token where it comes in time."""
    target = bridge.target
    pieces = bridge.prompt(target.soft_piece(bridge.soft_BKD.detach()), after=bridge.after)
    rows: list[list[int]] = [[] for _ in bridge.soft_BKD]
    ended = [False] * len(rows)
    for _ in range(tokens):
        hidden_BAD, _, _ = target.continuation_states(pieces, [[*row, 0] for row in rows])  # the last id is never read
        for i, token in enumerate(target.logits(hidden_BAD[:, -1]).argmax(-1).tolist()):
            rows[i].append(token)
            ended[i] |= token in target.end_ids
        if all(ended):
            break
    ends = [next((i for i, token in enumerate(row) if token in target.end_ids), len(row)) for row in rows]
    return [row[: end + 1] for row, end in zip(rows, ends, strict=True)]


@dataclass(frozen=True, kw_only=True)
class DecodeAware(Loss):
    """KL a decoded token from the target that reads the question, on the first `problems` of the global batch.

    On at each `every`-th step from the end of warm-up. Its memory is that of `problems` sequences of `tokens` new tokens,
    whatever the batch.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "decode_aware"
    weight: float = 0.1
    every: int = 10
    problems: int = 4
    tokens: int = 48

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight", "every", "problems", "tokens")

    def starts(self, *, warmup: int) -> int:
        """The first multiple of `every` after warm-up, counted from 1 as in the log."""
        return (warmup // self.every + 1) * self.every - 1

    def mine(self, batch: Batch) -> list[int]:
        """Rows of this worker's share that are decoded."""
        return [row for row in range(len(batch.answers)) if batch.offset + row < self.problems]

    def count(self, batch: Batch) -> int:
        """Problems that are decoded."""
        return len(self.mine(batch))

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over problems of the mean over their decoded tokens."""
        rows = self.mine(bridge.batch)
        if not rows:
            return 0 * bridge.soft_BKD.sum()
        few = bridge.only(rows)
        written = decoded(few, self.tokens)
        student = few.read_after_soft(few.after, written)
        with torch.no_grad():
            teacher = few.read(few.text_prompt(few.question), written)
        mask_BA = student.mask_BA
        kl_N = states_kl(few.target, teacher.hidden_BAD[mask_BA], student.hidden_BAD[mask_BA], temperature=1.0)
        share_BA = mask_BA / mask_BA.sum(1, keepdim=True)
        return (kl_N * share_BA[mask_BA]).sum()
