"""One checkpoint evaluated: raybridge with every arm and control of a translator, frozen arms kept, against a plain evaluation.

The plain one answers three arms by `generate`, 36 problems at a time, the exemplars as text in every row. raybridge is timed on
the same three arms besides, nothing kept. It reads the questions with the source anew at each repeat; the translator's weights
are those that it starts with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bench.card import head, here
from bench.plain_answers import ARMS, BATCH, Asked
from bench.report import Report, rows_of
from bench.shapes import Pair, as_replicas_load, pair_of
from bench.turns import Call, Ready, Way, Work, taken_in_turns
from raybridge import arms as arm_files
from raybridge.arms import Arm
from raybridge.data import draw
from raybridge.evaluation.answerer import Local, Rows
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Setting, setting_of
from raybridge.models.frozen import FrozenLM

WARM = 4  # problems that warm a way up


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many problems, and how often."""

    problems: int
    rounds: int
    repeats: int


SIZES = {
    "pocket": Sizes(problems=24, rounds=2, repeats=1),
    "small": Sizes(problems=256, rounds=1, repeats=3),
    "full": Sizes(problems=144, rounds=1, repeats=1),
}


class Loaded(Models):
    """Models that are in memory already; nothing that was computed of questions."""

    def __init__(self, models: Mapping[str, FrozenLM], device: torch.device) -> None:
        super().__init__(device)
        self.models = models

    def load(self, name: str) -> FrozenLM:
        """The model of that name."""
        return self.models[name]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A setting, the models that it names, and a translator's weights."""

    setting: Setting
    models: Mapping[str, FrozenLM]
    weights: Mapping[str, Tensor]
    device: torch.device

    def rows(self, arms: Sequence[Arm], count: int | None = None) -> Rows:
        """The rows of these arms. count: of the first problems; None for all."""
        setting = replace(self.setting, problems=self.setting.problems[:count])
        return Local(Loaded(self.models, self.device)).start(setting.requests(arms), self.weights).result()

    def plain(self) -> Asked:
        """The same for a plain evaluation."""
        setting = self.setting
        source, target = self.models[setting.source], self.models[setting.target]
        assert setting.translator is not None, "a checkpoint has a translator"
        module = Loaded(self.models, self.device).module(setting, self.weights)
        return Asked(source=source, target=target, translator=setting.translator, module=module, evaluator=setting.evaluator)


def evaluate(scale: str, *, repeats: int | None = None, problems: int | None = None) -> Report:
    """Time it. repeats: of each way, problems: of test; None for the scale's."""
    device = here()
    with pair_of(scale, device) as pair:
        return _evaluate(scale, pair, repeats=repeats, problems=problems or SIZES[scale].problems)


def checkpoint_of(pair: Pair, problems: int) -> Checkpoint:
    """A translator as it starts, on problems of test that are drawn by seed 0."""
    trial = pair.trial
    test = trial.evaluator.problems("test")
    setting = replace(setting_of(trial, "test"), problems=tuple(draw(test, min(problems, len(test)), seed=0)))
    models = {name: as_replicas_load(pair, name) for name in trial.models}
    source, target = models[trial.source], models[trial.target]
    torch.manual_seed(trial.seed)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms)
    return Checkpoint(setting=setting, models=models, weights=module.state_dict(), device=pair.device)


def _evaluate(scale: str, pair: Pair, *, repeats: int | None, problems: int) -> Report:
    sizes, checkpoint = SIZES[scale], checkpoint_of(pair, problems)
    every = [arm for arm in arm_files.every() if arm.trained and arm.borrows is None]
    three = [arm_files.find(name) for name in ARMS]
    plain = f"plain: {', '.join(ARMS)}, batch {BATCH}"
    ways = [
        _way(f"raybridge: {len(every)} arms of a translator", partial(checkpoint.rows, every), problems, plain),
        _way(f"raybridge: {', '.join(ARMS)}", partial(checkpoint.rows, three), problems, plain),
        Way(name=plain, ready=_plain(checkpoint)),
    ]
    rounds = 1 if repeats else sizes.rounds
    seen = taken_in_turns(ways, rounds=rounds, repeats=repeats or sizes.repeats, device=pair.device, warm=True)
    facts = head(pair.device, scale, pair.told) | {
        "benchmark": f"{pair.trial.evaluator.name}, {problems} problems, {len(pair.trial.evaluator.exemplars())} exemplars"
    }
    return Report(
        bench="evaluate",
        head=facts,
        step="a problem",
        share="",
        rows=rows_of(seen, most=None, by="problems"),
        notes=[f"the {len(every)} arms: {', '.join(arm.name for arm in every)}; the frozen ones are kept and computed once"],
    )


def _way(name: str, rows: Callable[..., Rows], problems: int, beside: str) -> Way:
    def told(found: Rows) -> Work:
        return Work(problems=problems, tokens=int(sum(row["generated_tokens"] for row in found)), steps=problems)

    @contextmanager
    def ready() -> Iterator[Call]:
        rows(WARM)
        yield lambda: partial(told, rows())

    return Way(name=name, ready=ready, beside=beside)


def _plain(checkpoint: Checkpoint) -> Ready:
    problems = checkpoint.setting.problems

    def told(found: Mapping[str, list[list[int]]]) -> Work:
        return Work(
            problems=len(problems), tokens=sum(len(row) for rows in found.values() for row in rows), steps=len(problems)
        )

    @contextmanager
    def ready() -> Iterator[Call]:
        asked = checkpoint.plain()
        asked.answers(problems[:WARM])
        yield lambda: partial(told, asked.answers(problems))

    return ready
