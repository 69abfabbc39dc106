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
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from raybridge.data import Problem
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.kept_source import Source
from raybridge.models.frozen import FrozenLM
from raybridge.results import TrialRun
from raybridge.stopping import Decision
from raybridge.training import checkpoint
from raybridge.training.conclusion import leave
from raybridge.training.judge import Judge
from raybridge.training.meter import Meter, flops_per_token, metrics_row
from raybridge.training.micro_batches import Cut, on_machine
from raybridge.training.start import Begun, begin_alike
from raybridge.training.step import Pending, Step, Trainer, build_trainer
from raybridge.training.worker import Ended
from raybridge.translators import TranslatorModule
from raybridge.translators.weights import copy_of
from raybridge.trial import Trial
from raybridge.world import World

LOG_EVERY = 10  # steps between two lines of metrics.jsonl

log = logging.getLogger(__name__)


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
    held: float | None = None,
    problems: Sequence[Problem] | None = None,
    module: TranslatorModule | None = None,
) -> Ended:
    """Train a trial from its last checkpoint, if it has one, to where only its test split is left.

    Rank 0 writes everything; `report` is called on every rank at the same steps, `interrupted` on rank 0 only. predicted: in
    what cut a share should fit the memory; held: see `on_machine`. problems, module: see `build_trainer`.
    """
    torch.use_deterministic_algorithms(True, warn_only=world.device.type == "cuda")
    # To fill every new tensor takes 100 of 550 ms a step on a GPU, and nothing here reads one before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    micro_batches = on_machine(trial, world, run.root, predicted=predicted, held=held, release=target.forget)
    started = time.perf_counter()
    trainer = build_trainer(
        trial,
        source=source,
        target=target,
        world=world,
        micro_batches=micro_batches,
        problems=problems,
        module=module,
    )
    log.info("translator and batches are made, %.1f s", time.perf_counter() - started)
    begun = begin_alike(trainer, run)
    log.info("all workers begin alike, %.1f s", time.perf_counter() - started)
    judge = Judge(trial=trial, run=run, evaluations=evaluations)
    if begun.step < trial.steps and begun.ended is None:
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
    """From where a trial begins to the end of its training or an interruption."""
    trial, world, run = trainer.trial, trainer.world, judge.run
    step, ended, started = begun.step, begun.ended, time.perf_counter()

    def seconds() -> float:
        return begun.seconds + time.perf_counter() - started

    def save(*, alone: set[int] | None = None, last: bool = False) -> dict[str, Tensor]:
        weights, moments = copy_of(trainer.module), None if last else checkpoint.moments_of(trainer.optimizer)
        told = {"step": step, "seconds": seconds(), "ended": vars(ended) if ended else None}
        writer.begin(partial(write, run, weights, moments, told, alone=alone))
        return weights

    def decided() -> Decision:
        writer.wait()
        return judge.decide(step - 1)

    def pass_point(loss: float) -> None:
        last = ended is not None or step == trial.steps
        weights = save(alone=judge.kept(step), last=last)
        if not last:  # whoever concludes the trial asks for that
            judge.submit(step, weights)
        log.info("step %d: loss %.4f, checkpoint copied, dev evaluation %s", step, loss, "left" if last else "asked for")

    def interrupt() -> None:
        if step not in trial.points:
            save()
        writer.wait()

    def log_step(done: Step, rate: float, mfu: float | None) -> None:
        run.append_metrics(metrics_row(step, done, rate, mfu, seconds()))

    def end() -> None:
        writer.wait()
        leave(trainer, run, judge, ended, step=step, seconds=seconds())

    before: Pending | None = None  # a step that is not told yet: the host is one ahead of the device
    while step < trial.steps and ended is None:
        measure = step == 0 or (step + 1) % LOG_EVERY == 0
        now = trainer.launch(step, measure=measure, interrupt=world.rank == 0 and interrupted())
        step += 1
        meter.count(now.tokens)
        if before is not None:
            before.told()
        before, first = now, step == begun.step + 1
        if not (measure or first or now.interrupted or step in trial.points):
            continue
        done, before = now.told(), None
        if first:  # with all that is made for a first step alone
            log.info("step %d is the first of this launch, %.1f s", step, time.perf_counter() - started)
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
    return "trained"


def write(
    run: TrialRun,
    weights: dict[str, Tensor],
    moments: dict[str, Tensor] | None,
    state: dict[str, Any],
    *,
    alone: set[int] | None,
) -> None:
    """Write a checkpoint, then delete all but those that are kept alone; None keeps all."""
    run.write_checkpoint(state["step"], checkpoint.files(weights, moments, state))
    if alone is not None:
        run.keep_checkpoints(alone)


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
