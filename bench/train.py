"""Training steps on answers and repetitions: raybridge with the source's states kept, against a plain loop with both models.

Both take the same problems in the same order. MFU is the arithmetic that the work needs (`flops`) over what the card's product
gives; the plain loop's has the source's, which it runs, and ours has none of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from bench import flops
from bench.card import head, here
from bench.plain_training import PlainTrainer
from bench.report import Report, rows_of
from bench.shapes import Pair, pair_of
from bench.turns import Call, Ready, Way, Work, taken_in_turns, tried
from raybridge.evaluation.kept_source import KeptSource
from raybridge.losses.bridge import Batch
from raybridge.models.frozen import FrozenLM
from raybridge.results.states import States
from raybridge.training.batches import Batches, tokens_of
from raybridge.training.step import Pending, Trainer, build_trainer, proving_step
from raybridge.trial import Trial
from raybridge.world import World


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Soft tokens and problems a step (None: the trial's), and how often it is timed.

    steps: that make one call, on a GPU as many as a training takes between two that it measures and waits for. before: other
    steps that raybridge takes first, by which it has recorded most lengths of a pass, as a training soon has.
    """

    soft_tokens: tuple[int | None, ...] = (None,)
    batch: int | None = None
    before: int = 0
    steps: int
    rounds: int
    repeats: int


SIZES = {
    "pocket": Sizes(steps=1, rounds=4, repeats=1),
    "small": Sizes(steps=9, rounds=1, repeats=5, before=80),
    "full": Sizes(soft_tokens=(64, 512), batch=8, steps=9, rounds=1, repeats=5, before=80),
}


def first_timed(trial: Trial) -> int:
    """The step by which every term has been proven to train."""
    return 1 + max(proving_step(loss, trial.warmup) for loss in trial.losses)


def walk(trainer: Trainer, steps: Iterable[int], *, measure: bool) -> None:
    """Take steps as a training does: the host is one ahead of the device, but where terms are measured."""
    before: Pending | None = None
    for step in steps:
        now = trainer.launch(step, measure=measure, interrupt=False)
        if before is not None:
            before.told()
        before = now
        if measure:
            before.told()
            before = None
    if before is not None:
        before.told()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """A trial's steps, each timed by any of the ways on the same problems. several: how many make one call, of so many calls.
    before: see `Sizes`. cuts: how much each way reads in one pass of the target, as it turned out."""

    pair: Pair
    trial: Trial
    target: FrozenLM
    kept: KeptSource
    several: int
    calls: int
    before: int
    cuts: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its size."""
        return f"K={self.trial.translator.soft_tokens}"

    @property
    def first(self) -> int:
        """The first step that is timed."""
        return first_timed(self.trial)

    @cached_property
    def batches(self) -> Batches:
        """The problems as tokens."""
        return Batches(self.trial, self.kept, self.target)

    def batch(self, step: int) -> Batch:
        """A step's."""
        return self.batches.of_step(step, World(device=self.pair.device))

    @property
    def end(self) -> int:
        """Behind the last step that is timed."""
        return self.first + self.calls * self.several

    def read_ahead(self) -> None:
        """Have the source read what the steps ask, as a sweep does before training; it is not kept in memory."""
        rows = [row for step in range(self.first, self.end + self.before) for row in self.batch(step).source_questions]
        self.kept.keep(self.batches.source.before, rows, self.trial.translator.layers)

    def work(self, step: int, *, source: FrozenLM | None, translator: float) -> Work:
        """What the steps of a call from this one on are. translator: FLOP of one step."""
        batches = [self.batch(step + i) for i in range(self.several)]
        around, repeat = self.batches.target, self.batches.repeat
        tokens = dict(before=len(around.before), after=around.after, after_repeat=repeat.after)
        useful = sum(flops.of_target(self.target, one, soft=self.trial.translator.soft_tokens, **tokens) for one in batches)
        if source is not None:
            before = len(self.batches.source.before)
            useful += sum(flops.of_source(source, one.source_questions, before=before) for one in batches)
        return Work(
            problems=self.several * self.trial.batch,
            tokens=sum(map(tokens_of, batches)),
            steps=self.several,
            useful=useful + self.several * translator,
        )

    def ours(self, *, measure: bool = False) -> Ready:
        """A way's `ready`."""

        @contextmanager
        def ready() -> Iterator[Call]:
            trainer = build_trainer(self.trial, source=self.kept, target=self.target, world=World(device=self.pair.device))
            spent = flops.of_translator(trainer.module, *trainer.batches.states(self.batch(self.first)))
            with self.target.recording():
                walk(trainer, range(self.end, self.end + self.before), measure=measure)
                yield self._call(lambda steps: walk(trainer, steps, measure=measure), None, spent, self.first)
            self.cuts[f"measured {measure}"] = str(trainer.micro_batches.cut)

        return ready

    def plain(self, part: int) -> Ready:
        """A way's `ready`, with so many problems a pass."""

        @contextmanager
        def ready() -> Iterator[Call]:
            with self.target.as_written():
                source = self.pair.load(self.trial.source)
                trainer = PlainTrainer(self.trial, source, self.target, part=part)
                spent = flops.of_translator(trainer.translator, *trainer.states(self.batch(self.first).source_questions))

                def walked(steps: Sequence[int]) -> None:
                    for step in steps:
                        trainer.step(self.batch(step))

                yield self._call(walked, source, spent, self.first)

        return ready

    def _call(self, walk: Callable[[Sequence[int]], None], source: FrozenLM | None, translator: float, at: int) -> Call:
        """Some steps, on from where the call before ended."""
        place = [at]

        def call() -> Callable[[], Work]:
            start = place[0]
            walk(range(start, start + self.several))
            place[0] += self.several
            return partial(self.work, start, source=source, translator=translator)

        return call

    def largest_part(self) -> int | None:
        """The most problems that the plain loop reads in one pass; None where not even one fits."""
        part = self.trial.batch
        while part and self.pair.device.type != "cpu":
            if tried(partial(_once, self.plain(part)), self.pair.device):
                break
            part //= 2
        return part or None

    def ways(self) -> list[Way]:
        """All of them."""
        part = self.largest_part()
        plain = f"plain, {self.name}, {part} a pass"
        found = [Way(name=f"raybridge, {self.name}", ready=self.ours(), beside=plain)]
        name = f"raybridge, {self.name}, each term's gradient measured"
        found.append(Way(name=name, ready=self.ours(measure=True), beside=plain))
        return [*found, *([Way(name=plain, ready=self.plain(part))] if part else [])]


def _once(ready: Ready) -> None:
    with ready() as call:
        call()


def train(
    scale: str,
    *,
    repeats: int | None = None,
    steps: int | None = None,
    soft_tokens: int | None = None,
    model: str | None = None,
    batch: int | None = None,
) -> Report:
    """Time it. repeats: of each way, steps: that are timed together, soft_tokens: K, batch: problems a step, model: that is
    source and target; None for the scale's."""
    device = here()
    with pair_of(scale, device) as pair, tempfile.TemporaryDirectory() as folder:
        if model is not None:
            if scale == "full":
                raise ValueError("--model: at full scale both models have real shapes and random weights; type --scale small")
            pair = replace(pair, trial=replace(pair.trial, source=model, target=model))
        return _train(scale, pair, Path(folder), repeats=repeats, steps=steps, soft_tokens=soft_tokens, batch=batch)


def _train(
    scale: str,
    pair: Pair,
    folder: Path,
    *,
    repeats: int | None,
    steps: int | None,
    soft_tokens: int | None,
    batch: int | None = None,
) -> Report:
    sizes, device = SIZES[scale], pair.device
    batch = batch or sizes.batch or pair.trial.batch
    rounds = 1 if repeats else sizes.rounds
    repeats, several = repeats or sizes.repeats, steps or sizes.steps
    facts = head(device, scale, pair.told)
    source = pair.trial.source
    kept = KeptSource(source, device=device, kept=States(root=folder), load=lambda: pair.load(source))
    target = pair.load(pair.trial.target)
    rows, notes = [], []
    for size in (soft_tokens,) if soft_tokens else sizes.soft_tokens:
        translator = replace(pair.trial.translator, soft_tokens=size) if size else pair.trial.translator
        trial = replace(pair.trial, translator=translator, batch=batch)
        calls = 1 + rounds * repeats
        asked = Steps(pair=pair, trial=trial, target=target, kept=kept, several=several, calls=calls, before=sizes.before)
        asked.read_ahead()
        seen = taken_in_turns(asked.ways(), rounds=rounds, repeats=repeats, device=device)
        rows += rows_of(seen, most=facts["product_flop_per_second"], by="problems")
        notes += [f"raybridge, {asked.name}, {way}: {cut}" for way, cut in asked.cuts.items()]
    facts |= {"batch": str(batch)}
    return Report(bench="train", head=facts, step="a step", share="MFU", rows=rows, notes=notes)
