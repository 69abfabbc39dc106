"""Where the workers of a trial begin: at its last checkpoint, or with what is fitted in closed form, and all alike.

Before they do, training and evaluation must agree on what stands around the question and where an answer begins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from raybridge.evaluation.benchmarks import exemplars_of
from raybridge.evaluation.scoring import check_first_token
from raybridge.evaluation.setting import setting_of
from raybridge.models.prompts import Frame, frame
from raybridge.results import TrialRun
from raybridge.stopping import Decision
from raybridge.training import checkpoint
from raybridge.training.fitting import fit
from raybridge.training.step import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Where a worker begins: after which step, and whether the trial has ended there."""

    step: int
    ended: Decision | None
    seconds: float


def begin(trainer: Trainer, run: TrialRun) -> Begun:
    """Put the last checkpoint into the trainer; without one, fit what starts in closed form. Refuse what `check_start` does."""
    steps = run.checkpoints()
    step = steps[-1] if steps else 0
    state: dict[str, Any] = {}
    if step:
        where = run.checkpoint_path(step)
        state = checkpoint.restore(where, trainer.module, trainer.optimizer, steps=trainer.trial.steps)
    elif trainer.module.fitted_from:
        started = time.perf_counter()
        fit(trainer.module, trainer.batches)
        log.info("what starts in closed form is fitted, %.1f s", time.perf_counter() - started)
    check_start(trainer)
    ended = Decision(**state["ended"]) if state.get("ended") else None
    return Begun(step=step, ended=ended, seconds=state.get("seconds", 0.0))


@torch.no_grad()
def check_start(trainer: Trainer) -> None:
    """Assert, on two problems of train, that decoding reads the first answer token from where training teaches it."""
    setting, batches = setting_of(trainer.trial, "dev"), trainer.batches
    asked = frame(batches.target.lm, setting.evaluator, exemplars=exemplars_of(setting.evaluator))
    check_same(batches.target, asked.anchored(setting.hardening.anchor))
    bridge = trainer.bridge(batches.tokens(batches.problems[:2]), 0, ())
    check_first_token(bridge.target, bridge.before, bridge.behind(bridge.soft))


def check_same(trained: Frame, asked: Frame) -> None:
    """Refuse to train behind another begin token, or before another cue or anchor, than evaluation asks with."""
    begin = trained.lm.tokenizer.bos_token_id
    if begins(trained.before, begin) != begins(asked.before, begin) or trained.before[:1] != asked.before[:1]:
        raise ValueError(
            f"model {trained.lm.name!r}: prompts begin with tokens {trained.before[:2]} in training and {asked.before[:2]} in "
            "evaluation; a begin token must stand in both or in neither"
        )
    if (trained.after, trained.answer_gap) != (asked.after, asked.answer_gap):
        raise ValueError(
            f"model {trained.lm.name!r}: an answer stands behind {trained.after_text!r} in training and behind "
            f"{asked.after_text!r} in evaluation; cue and anchor must be the same"
        )


def begins(ids: Sequence[int], begin: int | None) -> int:
    """How many begin tokens a prompt starts with. Those further on are no fault: some models begin every turn with it."""
    return next((place for place, token in enumerate(ids) if token != begin), len(ids))


def begin_alike(trainer: Trainer, run: TrialRun) -> Begun:
    """Where all workers begin. ValueError on every one of them where they differ: each would train a translator of its own."""
    world = trainer.world
    begun = begun_alike(world.each(partial(begin, trainer, run)))
    for rank, same in enumerate(world.same(trainer.module.state_dict().values())):
        if not same:
            raise ValueError(f"worker {rank} begins at step {begun.step} with other weights than worker 0")
    return begun


def begun_alike(workers: Sequence[Begun]) -> Begun:
    """Where all workers begin, in rank order; they must have found the same checkpoint."""
    first, *others = workers
    for rank, other in enumerate(others, start=1):
        if other != first:
            raise ValueError(
                f"worker {rank} finds the checkpoint of step {other.step} and worker 0 that of step {first.step}: "
                "the results must be in a folder that the machines of all workers share"
            )
    return first
