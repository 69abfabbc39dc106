"""Answers by transformers' `generate`, as one writes it without raybridge: padded embeddings, the whole prompt in each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench.turns import tried
from raybridge.models.frozen import FrozenLM


@torch.no_grad()
def generated(lm: FrozenLM, rows: Sequence[Sequence[Tensor | Sequence[int]]], *, length: int) -> list[list[int]]:
    """What is written behind rows of token ids and of embeddings (T, D), as token ids up to the end token and with it."""
    embeds = [_embedded(lm, row) for row in rows]
    longest = max(map(len, embeds))
    embeds_BTD = torch.stack([torch.cat([one.new_zeros(longest - len(one), one.shape[1]), one]) for one in embeds])
    lengths_B1 = torch.tensor([len(one) for one in embeds], device=lm.device).unsqueeze(1)
    mask_BT = (torch.arange(longest, device=lm.device) >= longest - lengths_B1).long()
    with lm.as_written():
        out = lm.model.generate(
            inputs_embeds=embeds_BTD,
            attention_mask=mask_BT,
            max_new_tokens=length,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=sorted(lm.end_ids),
            pad_token_id=lm.tokenizer.pad_token_id,
        )
    return [row[: next((i + 1 for i, token in enumerate(row) if token in lm.end_ids), len(row))] for row in out.tolist()]


def _embedded(lm: FrozenLM, row: Sequence[Tensor | Sequence[int]]) -> Tensor:
    """Parts of a row one behind another, as embeddings."""
    parts = [
        part if isinstance(part, Tensor) else lm.embed(torch.tensor(list(part), dtype=torch.long, device=lm.device))
        for part in row
    ]
    return torch.cat([part.to(lm.model.dtype) for part in parts])


def rates_that_fit(batches: Sequence[int], tokens: Callable[[int], int], device: torch.device) -> dict[int, float]:
    """Tokens a second at each batch, in their order up to the first that does not fit. tokens: writes a batch's."""
    found: dict[int, float] = {}
    tried(partial(tokens, batches[0]), device)  # to warm up
    for batch in batches:
        seen = tried(partial(tokens, batch), device)
        if seen is None:
            break
        seconds, written = seen
        found[batch] = written / seconds
    return found
