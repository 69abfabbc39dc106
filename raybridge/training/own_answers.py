"""The target's own answers to questions of train: computed once by whoever evaluates, kept as a frozen arm, and trained on.

They are the rows of the arm `target` on the train split, in the frame of every evaluation: a greedy completion a problem.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import pandas as pd

from raybridge.arms import find
from raybridge.data import Evaluator, Problem, data_folder, draw
from raybridge.data.varied import varied
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.benchmarks import every_problem
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.setting import ON_GPU, Setting, setting_of
from raybridge.results import Results
from raybridge.trial import OwnAnswers, Trial

ARM = find("target")
NOBODY = cast(Answerer, None)  # what is on disk is read without anybody who answers

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Own:
    """What a target answered. asked: questions; there: of which are answered; right: answers of these that are known to be.

    cut_off: answers that were. problems: those that are trained on, with the answer in the worked one's place.
    """

    asked: int
    there: int
    right: int
    cut_off: int
    problems: list[Problem]

    def __str__(self) -> str:
        if not self.there:
            return f"none yet: {self.asked:,} questions are answered before training"
        lacking = f", {self.asked - self.there:,} are to come before training" if self.there < self.asked else ""
        return (
            f"{self.there:,} of {self.asked:,} questions{lacking}: {self.right:,} known to be right, {self.cut_off:,} cut off, "
            f"{len(self.problems):,} trained on"
        )


def asked_of_target(trial: Trial) -> Setting:
    """The questions of train that a trial's target answers itself. Of the trial only what its answers depend on."""
    assert trial.own_answers is not None
    return replace(
        setting_of(trial, "train"), problems=tuple(questions(trial)), translator=None, soft_tokens=0, seed=0, trial=""
    )


def questions(trial: Trial) -> list[Problem]:
    """The problems whose questions these are: those of train, then the same with other numbers."""
    assert trial.own_answers is not None
    return list(_questions(trial.evaluator, trial.own_answers, str(data_folder())))


@cache
def _questions(evaluator: Evaluator, own: OwnAnswers, folder: str) -> tuple[Problem, ...]:
    """See `questions`. folder: where data are."""
    problems, count = list(every_problem(evaluator, "train")), own.problems
    some = problems if count is None or count >= len(problems) else draw(problems, count, seed=0)
    return (*some, *varied(some, own.varied, own=evaluator))


def answered(trial: Trial, results: Results, answerer: Answerer) -> Own:
    """Its own answers, from disk or else from whoever evaluates, who keeps them."""
    setting = asked_of_target(trial)
    keeper = Keeper(setting=setting, results=results, answerer=answerer, batch=ON_GPU)
    own = own_in(trial, setting, keeper.rows([ARM]))
    log.info("own answers of %s: %s", trial.target, own)
    return own


def kept(trial: Trial, results: Results) -> Own:
    """Those of its own answers that are on disk."""
    setting = asked_of_target(trial)
    there = Keeper(setting=setting, results=results, answerer=NOBODY).kept(ARM)
    return own_in(trial, setting, there)


def own_in(trial: Trial, setting: Setting, rows: pd.DataFrame) -> Own:
    """What a trial trains on of the sample rows of its target."""
    assert trial.own_answers is not None
    if not len(rows):
        return Own(asked=len(setting.problems), there=0, right=0, cut_off=0, problems=[])
    train = every_problem(trial.evaluator, "train")
    known = rows["problem"].isin({problem.id for problem in train})
    right = known & (rows[f"score_{trial.evaluator.readings[0]}"] >= 1)
    cut_off = rows["truncated"].astype(bool)
    wanted = ~cut_off & (right | (not trial.own_answers.right)) & rows["completion"].str.strip().ne("")
    by_id = dict(zip(rows["problem"][wanted], rows["completion"][wanted].str.strip(), strict=True))
    asked = dict.fromkeys((*train, *setting.problems))  # those of train in their own order, whichever were drawn
    return Own(
        asked=len(setting.problems),
        there=len(rows),
        right=int(right.sum()),
        cut_off=int(cut_off.sum()),
        problems=[replace(problem, rationale=by_id[problem.id]) for problem in asked if problem.id in by_id],
    )
