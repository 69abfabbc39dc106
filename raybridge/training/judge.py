"""The book of a trial's evaluations: asked for, received and written down, and what is decided by them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
from torch import Tensor

from raybridge.arms import find
from raybridge.data import Split
from raybridge.evaluation.answering import summarise
from raybridge.evaluation.evaluations import Evaluations
from raybridge.results import TrialRun
from raybridge.stopping import Decision, Score, best, decide
from raybridge.translators.weights import read_weights
from raybridge.trial import Trial

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Judge:
    """Rank 0's book: evaluations asked for and received, checkpoints kept, and the decision at each point."""

    trial: Trial
    run: TrialRun
    evaluations: Evaluations
    scores: list[Score] = field(default_factory=list)
    waited: float = 0.0

    def resume(self, step: int) -> None:
        """Forget what was logged after a step and read the dev evaluations up to it; those that were cut off start again."""
        self.run.truncate_metrics(step)
        evaluator, checkpoints, evals = self.trial.evaluator, self.run.checkpoints(), self.run.evals()
        told = set(evals.loc[(evals["evaluator"] == evaluator.name) & (evals["split"] == "dev"), "step"])
        for point in (point for point in self.trial.points if point <= step):
            samples = self.run.samples(evaluator.name, "dev", point)
            if samples is None and point not in checkpoints:
                raise ValueError(
                    f"the dev samples of step {point} are gone, and so is the checkpoint that would give them again: restore "
                    f"{self.run.path}/samples, or delete {self.run.path} to train the trial from the start"
                )
            if samples is None:
                self.submit(point, read_weights(self.run.checkpoint_path(point)))
                continue
            self.scores.append(self.score(samples, point))
            if point not in told:
                self.run.add_evals(summarise(samples, evaluator, step=point, split="dev"))

    def submit(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Ask for the dev evaluation of a point."""
        self.evaluations.submit(step=step, split="dev", weights=weights)

    def take(self, step: int, split: Split) -> None:
        """Wait for an evaluation, write it down, and count a dev score."""
        started = time.perf_counter()
        samples = self.evaluations.collect(step=step, split=split)
        self.waited += time.perf_counter() - started
        evaluator = self.trial.evaluator
        self.run.add_evals(summarise(samples, evaluator, step=step, split=split))
        self.run.write_samples(evaluator.name, split, step, samples)
        if split == "dev":
            self.scores.append(self.score(samples, step))
            log.info("step %d: dev accuracy %.3f of %d problems", step, self.scores[-1].accuracy, len(self.scores[-1].correct))

    def score(self, samples: pd.DataFrame, step: int) -> Score:
        """A dev score from its sample rows."""
        return score_of(samples, self.trial.evaluator.readings[0], step, arm=self.trial.translator.arm)

    def take_up_to(self, step: int) -> None:
        """Wait for every dev evaluation up to a step that is not in yet."""
        taken = {score.step for score in self.scores}
        for point in self.trial.points:
            if point <= step and point not in taken:
                self.take(point, "dev")

    def decide(self, step: int) -> Decision:
        """Whether the trial ends, by every dev evaluation up to a step."""
        self.take_up_to(step)
        return decide(self.trial.stopping, self.scores, planned=len(self.trial.points))

    def kept(self, step: int) -> set[int]:
        """The checkpoints that stay when a step has one: that and the best on dev."""
        return {step, best(self.scores).step} if self.scores else {step}


def score_of(samples: pd.DataFrame, reading: str, step: int, *, arm: str) -> Score:
    """An arm's dev score, beside its control."""
    own, shuffled = (samples[samples["arm"] == name] for name in (arm, find(arm).against))
    correct, control = (tuple(bool(score >= 1) for score in part[f"score_{reading}"]) for part in (own, shuffled))
    return Score(step=step, correct=correct, shuffled=control, nll=own["nll"].sum() / own["nll_tokens"].sum())
