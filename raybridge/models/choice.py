"""Which token each row takes: the likeliest, unless hardening says otherwise.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raybridge.models.frozen import FrozenLM
from raybridge.models.hardening import Hardening


@dataclass(kw_only=False)
class Choice:
    """The tokens of rows that began together. names: one a row, which seed what is drawn."""

    lm: FrozenLM
    hardening: Hardening
    names: Sequence[str]
    step: int = 0
    seen_BV: Tensor | None = field(default=None, init=False)  # tokens that a row has written

    def tokens(self, logits_BV: Tensor) -> Tensor:
        """The next token (B) of the rows that are running."""
        if self.hardening.plain:
            return logits_BV.argmax(dim=-1)
        logits_BV, told = logits_BV.float(), self.hardening
        if told.repetition_penalty != 1.0 and self.seen_BV is not None:
            penalised = torch.where(logits_BV > 0, logits_BV / told.repetition_penalty, logits_BV * told.repetition_penalty)
            logits_BV = torch.where(self.seen_BV, penalised, logits_BV)
        if self.step < told.ban_end:
            logits_BV = logits_BV.index_fill(1, torch.tensor(sorted(self.lm.end_ids), device=logits_BV.device), -torch.inf)
        if self.step == 0 and told.top_p is not None:
            token_B = nucleus(logits_BV, told.top_p, told.temperature, uniform(self.names, told.seed).to(logits_BV.device))
        else:
            token_B = logits_BV.argmax(dim=-1)
        if self.seen_BV is None:
            self.seen_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
        self.seen_BV.scatter_(1, token_B[:, None], True)
        self.step += 1
        return token_B

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        if self.seen_BV is not None:
            self.seen_BV = self.seen_BV[rows]


def nucleus(logits_BV: Tensor, top_p: float, temperature: float, draw_B: Tensor) -> Tensor:
    """A token (B) out of the likeliest that together reach `top_p`, by a draw from 0 to 1 (Holtzman et al. 2020,
    arXiv:1904.09751).
    """
    share_BV, order_BV = (logits_BV / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    reached_BV = share_BV.cumsum(dim=-1)
    kept_BV = share_BV.masked_fill(reached_BV - share_BV >= top_p, 0.0)
    reached_BV = kept_BV.cumsum(dim=-1)
    place_B = (reached_BV <= draw_B[:, None] * reached_BV[:, -1:]).sum(dim=-1)
    last_B = (kept_BV > 0).sum(dim=-1) - 1
    return order_BV.gather(1, torch.minimum(place_B, last_B)[:, None])[:, 0]


def uniform(names: Sequence[str], seed: int) -> Tensor:
    """A number from 0 to 1 for each name: the same wherever, whenever and beside whatever it is drawn."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names]
    return torch.tensor([int.from_bytes(digest[:6]) / 2**48 for digest in digests])
