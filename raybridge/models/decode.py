"""Batched greedy decoding from embeddings.

Rows are completed as many at a time as fit: in slots (`continuous`), where a model was seen to do that, and otherwise in a
batch that rows leave when they have ended. A prompt that all rows share is read once. The host looks at the tokens once a
block, so that a GPU is never waited for at every token.

Shapes: B rows still running, T prompt positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raybridge.models import continuous
from raybridge.models.capacity import halved, rows_at_a_time
from raybridge.models.choice import Choice
from raybridge.models.completion import BLOCK, Completion, Limit
from raybridge.models.free import free_bytes
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.models.lm import FrozenLM
from raybridge.models.packing import within_window
from raybridge.models.parts import by_length
from raybridge.models.pieces import Piece, join, joined_injections
from raybridge.models.prefill import Prefix, prefilled


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
    seen_whole = lm.shares_prompts and within_window(lm.model, longest + max_new_tokens)
    prefix = Prefix.read(lm, shared, once=seen_whole)
    limit = Limit(most=max_new_tokens, stop=stop)
    written: dict[int, list[int]] = {}

    def choice(rows: Sequence[int]) -> Choice:
        return Choice(lm, hardening, [names[row] for row in rows])

    def complete(rows: Sequence[int]) -> list[list[int]]:
        if seen_whole and lm.decodes_in_slots:
            return continuous.complete(lm, prompt, prefix, rows, choice, limit)
        return _complete(lm, join([prompt.rows(rows)]), prefix, choice(rows), limit)

    for part in _parts(lm, prompt, prefix, new=max_new_tokens):
        written |= dict(zip(part, halved(part, complete), strict=True))
    return [limit.completion(lm, written[row]) for row in range(len(names))]


def _parts(lm: FrozenLM, prompt: Piece, prefix: Prefix | None, *, new: int) -> list[list[int]]:
    """The rows that are completed together: as many as fit, and of one length where a pad would be a step of a recurrence."""
    copied = prefix.length if prefix and not prefix.once else 0
    fitting = rows_at_a_time(
        lm.model.config,
        [copied + length for length in prompt.lengths],
        new=new,
        free=[(free_bytes(device), share) for device, share in lm.shares.items()],
        value_bytes=lm.model.dtype.itemsize,
    )
    if lm.attends_only:
        return fitting
    return [[part[i] for i in alike] for part in fitting for alike in by_length([prompt.lengths[i] for i in part], start=0)]


def _complete(lm: FrozenLM, prompt: Piece, prefix: Prefix | None, choose: Choice, limit: Limit) -> list[list[int]]:
    """The tokens that each row writes, which may run on behind its end."""
    context, states_BD = prefilled(lm, prompt, prefix)
    running = list(range(len(states_BD)))
    written: list[list[int]] = [[] for _ in running]
    token_B: Tensor | None = None
    while running:
        block: list[Tensor] = []
        for _ in range(min(BLOCK, limit.most - len(written[running[0]]))):
            if token_B is not None:
                states_BD = context.read(lm.embed(token_B[:, None]))[:, -1]
            token_B = choose.tokens(lm.logits(states_BD))
            block.append(token_B)
        for row, tokens in zip(running, torch.stack(block, dim=1).tolist(), strict=True):
            written[row] += tokens
        going = [i for i, row in enumerate(running) if not limit.reached(lm, written[row], new=len(block))]
        if going and len(going) < len(running):
            keep = torch.tensor(going, device=lm.device, dtype=torch.long)
            context.keep(keep)
            choose.keep(keep)
            token_B = block[-1][keep]
        running = [running[i] for i in going]
    return written
