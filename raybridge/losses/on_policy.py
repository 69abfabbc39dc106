"""Decode-aware supervision: the target decodes freely from soft tokens, and is taught by what it decoded.

Teacher forcing never sees what a bridge writes after its own first mistake. Decoding itself has no gradient. What has one is,
by choice, the KL at every decoded position from the target that reads the question as text, the teacher on the student's own
completion (on-policy distillation, Agarwal et al. 2023, arXiv:2306.13649); or the task's own loss, the NLL of the worked
answer, on the problems whose decode ends in another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from raybridge.config import later, typed
from raybridge.losses import Loss, check_positive
from raybridge.losses.bridge import SHARED_TOKENS, Batch, Bridge, cut
from raybridge.losses.distillation import states_kl
from raybridge.models.decode import greedy

MARK = "####"  # before the answer, in a completion that has one
RIGHT = 0.1  # weight of a problem that is decoded right: where all are, a term without gradient would stop the trial


@torch.no_grad()
def decoded(bridge: Bridge, tokens: int) -> list[list[int]]:
    """What the target writes greedily after the soft tokens, each row with its end token where it comes in time."""
    target = bridge.target
    behind = bridge.behind(target.soft_piece(bridge.soft_BKD.detach()))
    rows: list[list[int]] = [[] for _ in bridge.soft_BKD]
    ended = [False] * len(rows)
    for _ in range(tokens):
        read = bridge.read(behind, [[*row, 0] for row in rows])  # the last id is never read
        for i, token in enumerate(target.logits(read.hidden_BAD[:, -1]).argmax(-1).tolist()):
            rows[i].append(token)
            ended[i] |= token in target.end_ids
        if all(ended):
            break
    ends = [next((i for i, token in enumerate(row) if token in target.end_ids), len(row)) for row in rows]
    return [row[: end + 1] for row, end in zip(rows, ends, strict=True)]


def answered(text: str) -> str:
    """What a text gives as its answer: the rest of the line behind its first mark, or without one its first line."""
    _, mark, behind = text.partition(MARK)
    return (behind if mark else text).strip().partition("\n")[0].strip()


def right(bridge: Bridge, tokens: int) -> list[bool]:
    """Whether what the target writes after the soft tokens, so many tokens at most, gives the answer of the worked one."""
    target = bridge.target
    behind = bridge.behind(target.soft_piece(bridge.soft_BKD.detach()))
    written = greedy(target, behind, max_new_tokens=tokens, shared=bridge.before)
    worked = [answered(target.text(row)) for row in bridge.batch.answers]
    return [answered(one.text) == wanted for one, wanted in zip(written, worked, strict=True)]


@dataclass(frozen=True, kw_only=True)
class DecodeAware(Loss):
    """What is decoded freely from the first `problems` of the global batch, and what it is taught by.

    supervision: "text", the KL a decoded token from the target that reads the question; "answer", the NLL a token of the worked
    answer where the decode gave another one, and RIGHT times it where it did not. On at each `every`-th step from the end of
    warm-up. Its memory is that of `problems` sequences of `tokens` new tokens, whatever the batch, or of as many answers.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "decode_aware"
    weight: float = 0.1
    every: int = 10
    problems: int = 4
    tokens: int = 48
    supervision: Literal["text", "answer"] = later("text")

    def __post_init__(self) -> None:
        typed(self)
        check_positive(self, "weight", "every", "problems", "tokens")

    def starts(self, *, warmup: int) -> int:
        """The first multiple of `every` after warm-up, counted from 1 as in the log."""
        return (warmup // self.every + 1) * self.every - 1

    def mine(self, batch: Batch) -> list[int]:
        """Rows of this worker's share that are decoded: among the first of the global batch those that have an answer."""
        return [row for row, answer in enumerate(batch.answers) if answer and batch.places[row] < self.problems]

    def count(self, batch: Batch) -> int:
        """Problems that are decoded."""
        return len(self.mine(batch))

    def total(self, bridge: Bridge) -> Tensor:
        """Sum over problems of the mean over their decoded tokens, or over those of their answers."""
        rows = self.mine(bridge.batch)
        if not rows:
            return 0 * bridge.soft_BKD.sum()
        few = bridge.only(rows)
        return self._towards_text(few) if self.supervision == "text" else self._towards_answers(few)

    def _towards_answers(self, few: Bridge) -> Tensor:
        taught = few.read_answers(cut(few.batch.answers, SHARED_TOKENS))
        mean_B = taught.nll.sum(1) / taught.nll.new_tensor(taught.lengths)
        share_B = mean_B.new_tensor([RIGHT if one else 1.0 for one in right(few, self.tokens)])
        return (share_B * mean_B).sum()

    def _towards_text(self, few: Bridge) -> Tensor:
        written = decoded(few, self.tokens)
        student = few.read_answers(written)
        with torch.no_grad():
            teacher = few.read(few.behind_text(few.question), written)
        kl_N = states_kl(few.target, teacher.states(self.tokens), student.states(self.tokens), temperature=1.0)
        share_N = [1 / length for length in student.lengths for _ in range(length)]
        return (kl_N * kl_N.new_tensor(share_N)).sum()
