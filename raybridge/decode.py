"""Batched greedy decoding from embeddings.

Rows that have ended leave the batch, a prompt that all rows share is computed once, and the host looks at the tokens
once a block, so that a GPU is never waited for at every token.

Shapes: B rows still running, T prompt positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from raybridge.lm import FrozenLM, Piece, join, positions

BLOCK = 8  # tokens between two looks of the host


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered. truncated: it reached the token limit without ending."""

    text: str
    tokens: int
    truncated: bool


@torch.no_grad()
def greedy(
    lm: FrozenLM, pieces: Sequence[Piece], *, max_new_tokens: int, stop: Sequence[str] = (), shared: Sequence[int] = ()
) -> list[Completion]:
    """Complete each row greedily after `shared` tokens and the pieces; the last column must be real in every row.

    A completion ends at an end token, before the first of the `stop` strings, or after `max_new_tokens`.
    """
    prompt = join(pieces)
    rows = prompt.mask_BT.shape[0]
    cache = DynamicCache(config=lm.model.config)
    mask_BT = prompt.mask_BT
    if shared:
        ids = torch.tensor([list(shared)], device=lm.device)
        lm.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(rows)
        mask_BT = torch.cat([mask_BT.new_ones(rows, len(shared)), mask_BT], dim=1)
    embeds_BTD = prompt.embeds_BTD
    position_BT = positions(mask_BT)[:, -embeds_BTD.shape[1] :]

    running = list(range(rows))
    written: list[list[int]] = [[] for _ in range(rows)]
    while running:
        block: list[Tensor] = []
        for _ in range(min(BLOCK, max_new_tokens - len(written[running[0]]))):
            logits_BV = lm.model(
                inputs_embeds=embeds_BTD,
                attention_mask=mask_BT,
                position_ids=position_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            token_B = logits_BV.argmax(dim=-1)
            block.append(token_B)
            embeds_BTD = lm.embed(token_B[:, None])
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(running), 1)], dim=1)
            position_BT = position_BT[:, -1:] + 1
        for row, tokens in zip(running, torch.stack(block, dim=1).tolist(), strict=True):
            written[row] += tokens
        going = [
            i
            for i, row in enumerate(running)
            if len(written[row]) < max_new_tokens and not _ended(lm, written[row], stop, new=len(block))
        ]
        if len(going) < len(running):
            keep = torch.tensor(going, device=lm.device, dtype=torch.long)
            running = [running[i] for i in going]
            if running:
                cache.batch_select_indices(keep)
                embeds_BTD, mask_BT, position_BT = embeds_BTD[keep], mask_BT[keep], position_BT[keep]
    return [_completion(lm, tokens, max_new_tokens, stop) for tokens in written]


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
    return Completion(text=text[:cut], tokens=min(length + ended, len(tokens)), truncated=truncated)
