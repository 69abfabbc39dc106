"""Greedy decoding from embeddings: raybridge.decode against transformers.generate, same model, same prompts, one run.

python bench/decode.py [--model pocket:target] [--batch 64]
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer

from evaluators.pocket import Pocket
from raybridge import lm as lms
from raybridge.decode import greedy
from raybridge.prompts import frame


def ours(lm: lms.FrozenLM, rows: list[list[int]], length: int) -> int:
    """Tokens written by raybridge."""
    return sum(c.tokens for c in greedy(lm, [lm.text_piece(rows)], max_new_tokens=length))


def theirs(lm: lms.FrozenLM, rows: list[list[int]], length: int) -> int:
    """Tokens written by transformers, from the same embeddings, padded on the left."""
    piece = lm.text_piece(rows, side="left")
    out = lm.model.generate(
        inputs_embeds=piece.embeds_BTD,
        attention_mask=piece.mask_BT.long(),
        max_new_tokens=length,
        do_sample=False,
        pad_token_id=lm.tokenizer.pad_token_id,
    )
    return sum(next((i + 1 for i, token in enumerate(row) if token in lm.end_ids), len(row)) for row in out.tolist())


def main(
    model: Annotated[str, typer.Option(help="any model name that raybridge loads")] = "pocket:target",
    batch: int = 64,
    length: int = 96,
    repeats: int = 5,
) -> None:
    """Print the median tokens a second of each, and their ratio."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = lms.load(model, device=device)
    around = frame(lm, Pocket())
    rows = [around.prompt(problem.question) for problem in Pocket().problems("test")[:batch]]
    rates: dict[str, list[float]] = {"raybridge": [], "transformers": []}
    for _ in range(repeats + 1):
        for name, write in (("raybridge", ours), ("transformers", theirs)):
            started = time.perf_counter()
            tokens = write(lm, rows, length)
            rates[name].append(tokens / (time.perf_counter() - started))
    medians = {name: sorted(values[1:])[repeats // 2] for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:>12} {rate:10,.0f} tokens/s  (batch {batch}, up to {length} tokens, {device}, median of {repeats})")
    print(f"{'ratio':>12} {medians['raybridge'] / medians['transformers']:10.2f}")


if __name__ == "__main__":
    typer.run(main)
