"""Greedy decoding from embeddings, with and without exemplars, against `generate` without them at its best batch.

Each row is a problem: the frame, soft tokens, the question, the cue; before it stand the exemplars, or nothing. What memory
allows: the weights that a token needs and the keys and values of what stands before it, those of a shared prompt once, read
once a token at the rate at which the card copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

from torch import Tensor

from bench.card import head, here
from bench.plain_generate import generated, rates_that_fit
from bench.report import Report, rows_of
from bench.shapes import Pair, as_replicas_load, pair_of
from bench.turns import Call, Timed, Way, Work, taken_in_turns
from raybridge.data import Problem
from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.kv_cache import position_bytes
from raybridge.models.prompts import frame
from raybridge.translators.soft_tokens import SoftTokens

SHOTS = 8


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows at a time, ours and those that `generate` is tried at; how often each is timed."""

    ours: tuple[int, ...]
    plain: tuple[int, ...]
    rounds: int
    repeats: int


SIZES = {
    "pocket": Sizes(ours=(32,), plain=(32,), rounds=3, repeats=1),
    "small": Sizes(ours=(36, 128, 256), plain=(36, 64, 128, 256), rounds=1, repeats=3),
    "full": Sizes(ours=(36, 128, 256), plain=(36, 64, 128, 256), rounds=1, repeats=3),
}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch's prompts behind one beginning: soft tokens (B, K, D), and what follows in each row."""

    lm: FrozenLM
    shared: Sequence[int]
    soft_BKD: Tensor
    after: Sequence[Sequence[int]]

    def only(self, count: int) -> Rows:
        """The first rows, round and round where there are fewer."""
        row = [i % len(self.after) for i in range(count)]
        return Rows(lm=self.lm, shared=self.shared, soft_BKD=self.soft_BKD[row], after=[self.after[i] for i in row])

    def ours(self, length: int) -> list[int]:
        """Tokens that raybridge writes in each row."""
        pieces = [self.lm.soft_piece(self.soft_BKD), self.lm.text_piece(self.after)]
        return [one.tokens for one in greedy(self.lm, pieces, max_new_tokens=length, shared=self.shared)]

    def plain(self, length: int) -> list[int]:
        """Tokens that transformers writes in each row."""
        rows = [[self.shared, soft_KD, row] for soft_KD, row in zip(self.soft_BKD, self.after, strict=True)]
        return [len(row) for row in generated(self.lm, rows, length=length)]

    def work(self, written: Sequence[int]) -> Work:
        """What it was to write so many tokens in each row, and the bytes that it reads at least."""
        position = position_bytes(self.lm.model.config, self.lm.model.dtype.itemsize)
        K, steps = self.soft_BKD.shape[1], max(written)
        own = sum(count * (K + len(row)) + count * (count - 1) // 2 for count, row in zip(written, self.after, strict=True))
        useful = steps * read_bytes(self.lm) + position * (own + steps * len(self.shared))
        return Work(problems=len(written), tokens=sum(written), steps=steps, useful=useful)


def read_bytes(lm: FrozenLM) -> int:
    """Bytes of the weights that a token needs: of embeddings it needs a row, unless the head is made of them."""
    parameters = list(lm.model.parameters())
    table = lm.model.get_input_embeddings().weight
    alone = table is not lm.model.get_output_embeddings().weight
    return sum(p.nbytes for p in parameters) - (table.nbytes if alone else 0)


def decode(scale: str, *, repeats: int | None = None, length: int = 128) -> Report:
    """Time it. repeats: of each way; None for the scale's. length: new tokens."""
    device = here()
    with pair_of(scale, device) as pair:
        return _decode(scale, pair, SIZES[scale], repeats=repeats, length=length)


def _decode(scale: str, pair: Pair, sizes: Sizes, *, repeats: int | None, length: int) -> Report:
    lm, count = as_replicas_load(pair, pair.trial.target), max(*sizes.ours, *sizes.plain)
    settings = {
        "": rows_of_problems(pair, lm, (), count),
        f" behind {SHOTS} exemplars": rows_of_problems(pair, lm, exemplars(pair), count),
    }
    ways, firsts, alone = list[Way](), list[Way](), settings[""]
    tried = rates_that_fit(sizes.plain, lambda batch: sum(alone.only(batch).plain(length)), pair.device)
    best = max(tried, key=lambda batch: tried[batch], default=None)
    name = f"generate, batch {best}"
    notes = [_told(alone, tried)]
    for behind, rows in settings.items():
        for some in (rows.only(n) for n in sizes.ours):
            way = f"raybridge, batch {len(some.after)}{behind}"
            ways.append(_way(way, some, some.ours, length, name))
            firsts.append(_way(way, some, some.ours, 1, name))
    if best is not None:
        ways.append(_way(name, alone.only(best), alone.only(best).plain, length, ""))
        firsts.append(_way(name, alone.only(best), alone.only(best).plain, 1, ""))
    often = dict(rounds=1 if repeats else sizes.rounds, repeats=repeats or sizes.repeats, device=pair.device)
    seen = taken_in_turns(ways, **often)
    notes += behind_prompts(seen, taken_in_turns(firsts, **often))
    facts = head(pair.device, scale, {"target": pair.told["target"], "soft tokens": str(pair.trial.translator.soft_tokens)})
    most = facts["copied_bytes_per_second"]
    notes += beside(seen, sizes.ours)
    return Report(
        bench="decode", head=facts, step="a token", share="of memory", rows=rows_of(seen, most=most, by="tokens"), notes=notes
    )


def _way(name: str, rows: Rows, write: Callable[[int], list[int]], length: int, beside: str) -> Way:
    @contextmanager
    def ready() -> Iterator[Call]:
        yield lambda: partial(rows.work, write(length))

    return Way(name=name, ready=ready, beside=beside)


def exemplars(pair: Pair) -> Sequence[Problem]:
    """The benchmark's worked ones; of one that has none, problems of train."""
    evaluator = pair.trial.evaluator
    return (evaluator.exemplars() or evaluator.problems("train"))[:SHOTS]


def rows_of_problems(pair: Pair, lm: FrozenLM, shots: Sequence[Problem], count: int) -> Rows:
    """The prompts of so many test problems, or of all there are, behind exemplars; soft tokens are noise."""
    evaluator = pair.trial.evaluator
    problems = evaluator.problems("test")[:count]
    around = frame(lm, evaluator, exemplars=shots)
    soft = SoftTokens(target=lm, names=tuple(p.id for p in problems), size=pair.trial.translator.soft_tokens).noise()
    behind = around.behind([problem.question for problem in problems])
    after = [[*row.question, *row.after] for row in behind]
    return Rows(lm=lm, shared=around.before, soft_BKD=soft.values.to(lm.model.dtype), after=after)


def _told(rows: Rows, tried: dict[int, float]) -> str:
    """The prompts, and what `generate` came to at each batch."""
    K = rows.soft_BKD.shape[1]
    mean = sum(map(len, rows.after)) / len(rows.after) + K
    rates = ", ".join(f"{rate:,.0f} tokens/s at {batch}" for batch, rate in tried.items()) or "no batch fits"
    return f"prompts: {mean:.0f} tokens in the mean, exemplars apart; generate without them: {rates}"


def behind_prompts(seen: Sequence[Timed], firsts: Sequence[Timed]) -> list[str]:
    """What each way comes to without its prompts' own pass. firsts: each way asked for one token, which is that pass."""
    rates: dict[str, float] = {}
    told = []
    for one, first in zip(seen, firsts, strict=True):
        if not (one.seconds and first.seconds):
            continue
        seconds, work = median(one.seconds) - median(first.seconds), one.works[0]  # every call writes as many tokens
        if seconds <= 0 or work.steps < 2:
            continue
        assert work.tokens is not None, "tokens are counted"
        rates[one.way.name] = (work.tokens - work.problems) / seconds
        told.append((one.way, 1e3 * seconds / (work.steps - 1)))
    return [
        f"{way.name}, without its prompts' own pass: {milliseconds:.3g} ms a token, {rates[way.name]:,.0f} tokens/s"
        + (f", {rates[way.name] / rates[way.beside]:.2f} times {way.beside}" if way.beside in rates else "")
        for way, milliseconds in told
    ]


def beside(seen: Sequence[Timed], batches: Sequence[int]) -> list[str]:
    """What the exemplars cost at each batch: times as long, and memory."""
    by_name, told = {one.way.name: one for one in seen}, []
    for batch in batches:
        without, with_ = by_name[f"raybridge, batch {batch}"], by_name[f"raybridge, batch {batch} behind {SHOTS} exemplars"]
        if without.step is None or with_.step is None:
            continue
        more = ""
        if without.peak is not None and with_.peak is not None:
            more = f", {(with_.peak - without.peak) / 2**30:+.2f} GiB"
        told.append(f"{SHOTS} exemplars at batch {batch}: {with_.step / without.step:.2f} times the time{more}")
    return told
