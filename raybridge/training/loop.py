"""Train one translator: a plain-torch loop that one worker or many run alike.

The loop stops at evaluation points (every `eval_every` steps, and the last step). At a point it first waits for the
evaluation submitted at the point before, decides on all evaluations up to that one, copies what a checkpoint holds, and submits
the next. So the decision is the same however late an evaluation comes, and training goes on while replicas evaluate and a
thread writes the checkpoint.
What rank 0 does alone is agreed upon (`World.only_first`): where it fails, every rank ends with its error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from raybridge.arms import find
from raybridge.data import Problem, Split
from raybridge.evaluation.answering import summarise
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.kept_source import Source
from raybridge.models.frozen import FrozenLM
from raybridge.results import TrialRun
from raybridge.stopping import Decision, Score, best, decide, peak
from raybridge.training import checkpoint
from raybridge.training.conditioning import look_inside
from raybridge.training.meter import Meter, flops_per_token, metrics_row
from raybridge.training.micro_batches import Cut, on_machine
from raybridge.training.start import Begun, begin, begun_alike
from raybridge.training.step import Step, Trainer, build_trainer
from raybridge.training.worker import Ended
from raybridge.translators.weights import copy_of, read_weights
from raybridge.trial import Trial
from raybridge.world import World

COMPILED_FROM = 500  # steps: compiling takes as long as it saves over about 300
LOG_EVERY = 10  # steps between two lines of metrics.jsonl

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


def train(
    trial: Trial,
    *,
    run: TrialRun,
    source: Source,
    target: FrozenLM,
    world: World,
    evaluations: Evaluations,
    report: Callable[[dict[str, Any]], None],
    interrupted: Callable[[], bool],
    predicted: Cut | None = None,
    problems: Sequence[Problem] | None = None,
) -> Ended:
    """Train, evaluate and finish a trial, from its last checkpoint if it has one. problems: see `Batches`.

    Rank 0 writes everything; `report` is called on every rank at the same steps, `interrupted` on rank 0 only. predicted: in
    what cut a share should fit the memory.
    """
    torch.use_deterministic_algorithms(True, warn_only=world.device.type == "cuda")
    # To fill every new tensor takes 100 of 550 ms a step on a GPU, and nothing here reads one before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    micro_batches = on_machine(trial, world, run.root, predicted=predicted)
    trainer = build_trainer(trial, source=source, target=target, world=world, micro_batches=micro_batches, problems=problems)
    begun = begun_alike(world.each(partial(begin, trainer, run)))
    if target.packs and trial.steps >= COMPILED_FROM:
        target.compile()
    judge = Judge(trial=trial, run=run, evaluations=evaluations)
    world.only_first(partial(judge.resume, begun.step))
    on = ", ".join(map(str, world.devices))
    log.info("from step %d of %d, %d worker(s), %s", begun.step, trial.steps, world.size, on)
    devices = world.size * len(world.devices)
    meter = Meter(flops_per_token=flops_per_token(target), device=world.device, devices=devices)
    with checkpoint.Writer() as writer:
        return _train_on(trainer, begun, judge, writer, meter, report=report, interrupted=interrupted)


def _train_on(
    trainer: Trainer,
    begun: Begun,
    judge: Judge,
    writer: checkpoint.Writer,
    meter: Meter,
    *,
    report: Callable[[dict[str, Any]], None],
    interrupted: Callable[[], bool],
) -> Ended:
    """From where a trial begins to its end or an interruption."""
    trial, world, run = trainer.trial, trainer.world, judge.run
    step, ended, started = begun.step, begun.ended, time.perf_counter()

    def seconds() -> float:
        return begun.seconds + time.perf_counter() - started

    def save(*, alone: set[int] | None = None) -> dict[str, Tensor]:
        weights, moments = copy_of(trainer.module), checkpoint.moments_of(trainer.optimizer)
        told = {"step": step, "seconds": seconds(), "ended": vars(ended) if ended else None}
        writer.begin(partial(write, run, weights, moments, told, alone=alone))
        return weights

    def decided() -> Decision:
        writer.wait()
        return judge.decide(step - 1)

    def pass_point(loss: float) -> None:
        judge.submit(step, save(alone=judge.kept(step)))
        log.info("step %d: loss %.4f, checkpoint copied, dev evaluation asked for", step, loss)

    def interrupt() -> None:
        if step not in trial.points:
            save()
        writer.wait()

    def log_step(done: Step, rate: float, mfu: float | None) -> None:
        run.append_metrics(metrics_row(step, done, rate, mfu, seconds()))

    def end() -> None:
        writer.wait()
        judge.take_up_to(step)
        finish(trainer, run, judge, ended, step=step, seconds=seconds())

    while step < trial.steps and ended is None:
        measure = step == 0 or (step + 1) % LOG_EVERY == 0
        done = trainer.step(step, measure=measure, interrupt=world.rank == 0 and interrupted())
        step += 1
        meter.count(done.tokens)
        if measure:
            rate, mfu = meter.read()
            world.only_first(partial(log_step, done, rate, mfu))
            report(report_row(run, step, done.loss, rate, judge))
        if step in trial.points:
            decision = world.only_first(decided)
            ended = decision if decision.stop else None
            world.only_first(partial(pass_point, done.loss))
        if done.interrupted:
            world.only_first(interrupt)
            log.info("step %d: interrupted, checkpoint saved", step)
            return "interrupted"

    world.only_first(end)
    return "complete"


def write(
    run: TrialRun,
    weights: dict[str, Tensor],
    moments: dict[str, Tensor],
    state: dict[str, Any],
    *,
    alone: set[int] | None,
) -> None:
    """Write a checkpoint, then delete all but those that are kept alone; None keeps all."""
    run.write_checkpoint(state["step"], checkpoint.files(weights, moments, state))
    if alone is not None:
        run.keep_checkpoints(alone)


def finish(trainer: Trainer, run: TrialRun, judge: Judge, ended: Decision | None, *, step: int, seconds: float) -> None:
    """Keep the best and the last checkpoint, read the test split once with the best, and write result.json."""
    trial = trainer.trial
    top, chosen, final = peak(judge.scores), best(judge.scores), judge.scores[-1]
    run.keep_checkpoints(judge.kept(step))
    weights = read_weights(run.checkpoint_path(chosen.step))
    judge.evaluations.submit(step=chosen.step, split="test", weights=weights)
    look_inside(trainer, run, weights)
    judge.take(chosen.step, "test")
    log.info("step %d: ended, %s", step, ended.reason if ended else f"all {trial.steps} steps")
    evals = run.evals()
    test = evals[evals["split"] == "test"]
    run.finish(
        {
            "name": trial.name,
            "fingerprint": trial.fingerprint,
            "steps": step,
            "stopped": ended.kind if ended else "finished",
            "reason": ended.reason if ended else f"all {trial.steps} steps",
            "arm": trial.translator.arm,
            "peak": top.accuracy,
            "peak_step": top.step,
            "best_step": chosen.step,
            "best": chosen.accuracy,
            "final": final.accuracy,
            "degradation": top.accuracy - final.accuracy,
            "shuffled_dev_at_peak": top.control,
            "test": {
                arm: {
                    row.reading: {
                        "accuracy": row.accuracy,
                        "n": row.n,
                        "low": row.low,
                        "high": row.high,
                        "nll": row.nll,
                    }
                    for row in part.itertuples()
                }
                for arm, part in test.groupby("arm")
            },
            "gpus": trainer.world.size * len(trainer.world.devices) if trainer.world.device.type == "cuda" else 0,
            "train_seconds": seconds,
            "eval_wait_seconds": judge.waited,
        }
    )
    for kept in run.checkpoints():
        checkpoint.forget_moments(run.checkpoint_path(kept))


def report_row(run: TrialRun, step: int, loss: float, rate: float, judge: Judge) -> dict[str, Any]:
    """What the live table shows of a trial."""
    last = judge.scores[-1] if judge.scores else None
    return {
        "step": step,
        "loss": loss,
        "tokens_per_second": rate,
        "dev_accuracy": last.accuracy if last else None,
        "dev_step": last.step if last else None,
        "state": "training",
    }
