"""Greedy decoding from embeddings: raybridge.models.decode against transformers.generate, arms together against one by one, and
a long prompt that all rows share against a copy of it in every row.

Same model, same prompts, one run. python bench/decode.py [--model pocket:target] [--batch 64]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from evaluators.pocket import Pocket
from raybridge.models import lm as lms
from raybridge.models.decode import greedy, stack
from raybridge.models.lm import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.models.prompts import frame

ARMS = 3  # bridged and two controls: the same question's place, other soft tokens


def ours(lm: FrozenLM, rows: list[list[int]], length: int) -> int:
    """Tokens written by raybridge."""
    return sum(c.tokens for c in greedy(lm, [lm.text_piece(rows, side="left")], max_new_tokens=length))


def theirs(lm: FrozenLM, rows: list[list[int]], length: int) -> int:
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


def arms(lm: FrozenLM, rows: list[list[int]]) -> list[list[Piece]]:
    """The prompts of several arms on the same problems: the text, and soft tokens of two lengths beside it."""
    text = lm.text_piece(rows, side="left")
    soft = [lm.soft_piece(lm.embed(torch.full((len(rows), 4 * i), i, device=lm.device))) for i in range(1, ARMS)]
    return [[text], *([piece, text] for piece in soft)]


def one_by_one(lm: FrozenLM, prompts: list[list[Piece]], length: int) -> int:
    """Tokens of every arm, each in a batch of its own."""
    return sum(c.tokens for pieces in prompts for c in greedy(lm, pieces, max_new_tokens=length))


def together(lm: FrozenLM, prompts: list[list[Piece]], length: int) -> int:
    """Tokens of every arm, all in one batch."""
    return sum(c.tokens for c in greedy(lm, [stack(prompts)], max_new_tokens=length))


def behind(lm: FrozenLM, rows: list[list[int]], shared: list[int], length: int) -> int:
    """Tokens written behind a prompt that is read once and kept once."""
    return sum(c.tokens for c in greedy(lm, [lm.text_piece(rows)], max_new_tokens=length, shared=shared))


def rates(ways: dict[str, Callable[[], int]], repeats: int) -> dict[str, float]:
    """Median tokens a second of each way, taken in turns after one round to warm up."""
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, write in ways.items():
            started = time.perf_counter()
            tokens = write()
            seen[name].append(tokens / (time.perf_counter() - started))
    return {name: sorted(values[1:])[repeats // 2] for name, values in seen.items()}


def main(
    model: Annotated[str, typer.Option(help="any model name that raybridge loads")] = "pocket:target",
    batch: int = 64,
    length: int = 96,
    repeats: int = 5,
    prefix: Annotated[int, typer.Option(help="tokens of the prompt that rows share")] = 384,
) -> None:
    """Print the median tokens a second of each way, and the ratio of each pair."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = lms.load(model, device=device)
    around = frame(lm, Pocket())
    rows = [around.prompt(problem.question) for problem in Pocket().problems("test")[:batch]]
    prompts = arms(lm, rows)
    shared = (rows[0] * prefix)[:prefix]
    copies = [shared + row for row in rows]
    print(f"{model}, batch {batch}, up to {length} tokens, {device}, median of {repeats}, {prefix} tokens shared")
    for ways in (
        {"raybridge": lambda: ours(lm, rows, length), "transformers": lambda: theirs(lm, rows, length)},
        {
            f"{ARMS} arms together": lambda: together(lm, prompts, length),
            f"{ARMS} arms one by one": lambda: one_by_one(lm, prompts, length),
        },
        {"a shared prompt": lambda: behind(lm, rows, shared, length), "a copy each": lambda: ours(lm, copies, length)},
        {"a shared prompt": lambda: behind(lm, rows, shared, length), "transformers": lambda: theirs(lm, copies, length)},
    ):
        found = rates(ways, repeats)
        for name, rate in found.items():
            print(f"{name:>18} {rate:10,.0f} tokens/s")
        first, second = found.values()
        print(f"{'ratio':>18} {first / second:10.2f}")


if __name__ == "__main__":
    typer.run(main)
