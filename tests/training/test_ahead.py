"""The host is a step ahead of the device: the same steps, and no error is lost or comes too late to keep what is saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar
from unittest import mock

import local_runs
import pytest
import torch
from two_workers import on_two_workers

from bench.train import walk
from raybridge.losses import Loss
from raybridge.losses.next_token import AnswerNLL
from raybridge.models import lm
from raybridge.results import Results
from raybridge.training.micro_batches import MicroBatches
from raybridge.training.step import build_trainer
from raybridge.world import World, agreed


@pytest.fixture(scope="module")
def short(trial):
    return replace(trial, steps=6, warmup=2, batch=4, eval_every=2, dev_problems=4, test_problems=4)


@dataclass(frozen=True, kw_only=True)
class Breaks(Loss):
    """No number at the third step."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "breaks"
    weight: float = 1.0

    def count(self, batch):
        return 1

    def total(self, bridge):
        return bridge.soft_BKD.pow(2).sum() * (float("nan") if bridge.step == 2 else 1.0)


def test_steps_that_are_told_later_are_the_same_steps(short, source, target):
    waited, ahead = (build_trainer(short, source=source, target=target, world=World()) for _ in range(2))
    rows = [waited.step(step, measure=step == 2, interrupt=False) for step in range(4)]
    pending = [ahead.launch(step, measure=step == 2, interrupt=False) for step in range(4)]
    for row, one in zip(rows, pending, strict=True):
        told = one.told()
        assert (told.terms, told.gradient_norm, told.tokens) == (row.terms, row.gradient_norm, row.tokens)
        assert (one.tokens, one.interrupted) == (row.tokens, False)
    for one, other in zip(ahead.parameters, waited.parameters, strict=True):
        assert torch.equal(one, other)


def test_what_is_no_number_is_named_at_its_step_and_nothing_behind_it_is_saved(short, tmp_path, models):
    with pytest.raises(ValueError, match="loss term 'breaks' is nan at step 3"):
        local_runs.run_trial(replace(short, losses=(AnswerNLL(), Breaks())), Results(tmp_path), models)
    (run,) = Results(tmp_path).trials()
    assert run.checkpoints() == [2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU")
def test_on_a_gpu_no_step_waits_for_the_one_before_or_behind_it(short):
    source, target = (lm.load(name, device="cuda") for name in (short.source, short.target))
    trainer = build_trainer(short, source=source, target=target, world=World(device=torch.device("cuda")))
    walk(trainer, range(3), measure=False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = trainer.launch(3, measure=False, interrupt=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda._sleep(10**10)  # seconds of work, as of the step behind it
    assert pending.told().loss > 0
    assert not torch.cuda.current_stream().query()


@pytest.mark.parametrize("measure", [False, True])
def test_a_bench_walks_as_a_training_does(short, source, target, measure):
    trainer = build_trainer(replace(short, losses=(AnswerNLL(), Breaks())), source=source, target=target, world=World())
    launch = type(trainer).launch
    with (
        mock.patch("raybridge.training.step.Trainer.launch", autospec=True, side_effect=launch) as launched,
        pytest.raises(ValueError, match="nan at step 3"),
    ):
        walk(trainer, range(6), measure=measure)
    assert [call.args[1] for call in launched.call_args_list] == ([0, 1, 2] if measure else [0, 1, 2, 3])


def refused(world: World, trial) -> tuple[str, bool, int]:
    """How a rank ends where the other alone cannot make its third pass, and at which step it was then."""
    source, target = (lm.load(name, device="cpu") for name in (trial.source, trial.target))
    trainer = build_trainer(trial, source=source, target=target, world=world)
    within, passes = MicroBatches.within, []

    def failing(cut: MicroBatches, work):
        passes.append(1)
        if len(passes) == 3 and world.rank == 1:
            raise ValueError("not this batch")
        return within(cut, work)

    step = 0
    with mock.patch.object(MicroBatches, "within", failing):
        try:
            before = None
            for step in range(6):
                now = trainer.launch(step, measure=False, interrupt=False)
                if before is not None:
                    before.told()
                before = now
        except ValueError as error:
            return str(error), agreed(error), step
    return "", False, step


def test_a_rank_that_fails_while_the_next_step_is_launched_ends_both(short):
    assert on_two_workers(refused, short) == [("not this batch", True, 3)] * 2
