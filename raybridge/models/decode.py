"""Batched greedy decoding from embeddings.

Rows are completed as many at a time as fit, and those that have ended leave the batch. A prompt that all rows share is
read once. The host looks at the tokens once a block, so that a GPU is never waited for at every token.

Shapes: B rows still running, T prompt positions, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raybridge.models.capacity import free_bytes, halved, rows_at_a_time
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.models.lm import FrozenLM
from raybridge.models.packing import within_window
from raybridge.models.parts import by_length
from raybridge.models.pieces import Piece, join, joined_injections
from raybridge.models.prefill import Prefix, prefilled

BLOCK = 8  # tokens between two looks of the host


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered. truncated: it reached the token limit without ending; ended: it wrote an end token."""

    text: str
    tokens: int
    truncated: bool
    ended: bool
    first: int  # the first token, whatever it is


def stack(prompts: Sequence[Sequence[Piece]]) -> Piece:
    """Several batches of prompts as one."""
    joined = [join(pieces) for pieces in prompts]
    longest = max(piece.mask_BT.shape[1] for piece in joined)
    filled = [piece.wider(longest) for piece in joined]
    return Piece(
        embeds_BTD=torch.cat([piece.embeds_BTD for piece in filled]),
        mask_BT=torch.cat([piece.mask_BT for piece in filled]),
        injected=joined_injections(filled, dim=0),
    )


@torch.no_grad()
def greedy(
    lm: FrozenLM,
    pieces: Sequence[Piece],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    shared: Sequence[int] = (),
    hardening: Hardening = PLAIN,
    names: Sequence[str] = (),
) -> list[Completion]:
    """Complete each row greedily after `shared` tokens and the pieces.

    A completion ends at an end token, before the first of the `stop` strings, or after `max_new_tokens`. `hardening`
    changes which token is taken; where it samples, `names` (one a row) seed the draw.
    """
    lm.check_target()
    prompt = join(pieces)
    names = names or [""] * len(prompt.lengths)
    if not lm.attends_only:  # what a recurrence keeps of a prompt cannot be read on by every model
        prompt, shared = join([lm.text_piece([shared] * len(names)), prompt]), ()
    longest = len(shared) + max(prompt.lengths, default=0)
    lm.check_length(longest, new=max_new_tokens)
    prefix = Prefix.read(lm, shared, once=lm.shares_prompts and within_window(lm.model, longest + max_new_tokens))
    written: dict[int, list[int]] = {}

    def complete(part: Sequence[int]) -> list[list[int]]:
        choose = _Choice(lm, hardening, [names[row] for row in part])
        return _complete(lm, join([prompt.rows(part)]), prefix, choose, max_new_tokens=max_new_tokens, stop=stop)

    for part in _parts(lm, prompt, prefix, new=max_new_tokens):
        written |= dict(zip(part, halved(part, complete), strict=True))
    return [_completion(lm, written[row], max_new_tokens, stop) for row in range(len(names))]


def _parts(lm: FrozenLM, prompt: Piece, prefix: Prefix | None, *, new: int) -> list[list[int]]:
    """The rows that are completed together: as many as fit, and of one length where a pad would be a step of a recurrence."""
    copied = prefix.length if prefix and not prefix.once else 0
    fitting = rows_at_a_time(
        lm.model.config,
        [copied + length for length in prompt.lengths],
        new=new,
        free=free_bytes(lm.device),
        value_bytes=lm.model.dtype.itemsize,
    )
    if lm.attends_only:
        return fitting
    return [[part[i] for i in alike] for part in fitting for alike in by_length([prompt.lengths[i] for i in part], start=0)]


def _complete(
    lm: FrozenLM, prompt: Piece, prefix: Prefix | None, choose: _Choice, *, max_new_tokens: int, stop: Sequence[str]
) -> list[list[int]]:
    """The tokens that each row writes, which may run on behind its end."""
    context, states_BD = prefilled(lm, prompt, prefix)
    running = list(range(len(states_BD)))
    written: list[list[int]] = [[] for _ in running]
    token_B: Tensor | None = None
    while running:
        block: list[Tensor] = []
        for _ in range(min(BLOCK, max_new_tokens - len(written[running[0]]))):
            if token_B is not None:
                states_BD = context.read(lm.embed(token_B[:, None]))[:, -1]
            token_B = choose.tokens(lm.logits(states_BD))
            block.append(token_B)
        for row, tokens in zip(running, torch.stack(block, dim=1).tolist(), strict=True):
            written[row] += tokens
        going = [
            i
            for i, row in enumerate(running)
            if len(written[row]) < max_new_tokens and not _ended(lm, written[row], stop, new=len(block))
        ]
        if going and len(going) < len(running):
            keep = torch.tensor(going, device=lm.device, dtype=torch.long)
            context.keep(keep)
            choose.keep(keep)
            token_B = block[-1][keep]
        running = [running[i] for i in going]
    return written


def _ended(lm: FrozenLM, tokens: list[int], stop: Sequence[str], *, new: int) -> bool:
    """Whether a row has an end token among its newest, or a stop string that reaches into them."""
    if not lm.end_ids.isdisjoint(tokens[-new:]):
        return True
    reach = new + max((len(text.encode()) for text in stop), default=0)  # a token is at least a byte
    tail = lm.text(tokens[-reach:]) if stop else ""
    return any(text in tail for text in stop)


def _completion(lm: FrozenLM, tokens: list[int], max_new_tokens: int, stop: Sequence[str]) -> Completion:
    """Cut a row at its first end token and before its first stop string."""
    length = next((i for i, token in enumerate(tokens) if token in lm.end_ids), len(tokens))
    ended = length < len(tokens)
    text = lm.text(tokens[:length])
    cut = min((at for at in (text.find(string) for string in stop) if at >= 0), default=len(text))
    truncated = not ended and cut == len(text) and len(tokens) >= max_new_tokens
    count = min(length + ended, len(tokens))
    return Completion(text=text[:cut], tokens=count, truncated=truncated, ended=ended and cut == len(text), first=tokens[0])


@dataclass(kw_only=False)
class _Choice:
    """Which token each row takes: the likeliest, unless hardening says otherwise."""

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
