"""One optimizer step: every loss on one worker and on two, and what a step refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from quick import FITTED_FROM
from two_workers import on_two_workers

from raybridge import HOUSE
from raybridge.losses import Loss, active, read_together
from raybridge.losses.alignment import PromptAlignment, SourceProbe
from raybridge.losses.contrastive import InfoNCE, PromptContrast
from raybridge.losses.distillation import HiddenStates, TextKL
from raybridge.losses.flow import Flow
from raybridge.losses.next_token import AnswerNLL, FadingText, FirstTokens, Format, Reconstruction
from raybridge.losses.on_policy import DecodeAware
from raybridge.models import lm
from raybridge.scales import SCALES
from raybridge.sweep_file import load
from raybridge.training.fitting import fit
from raybridge.training.micro_batches import Cut
from raybridge.training.step import build_trainer
from raybridge.translators.hybrid_dit import HybridDiT
from raybridge.world import World

LOSSES = (
    AnswerNLL(),
    Reconstruction(),
    FirstTokens(),
    Format(),
    FadingText(steps=2),
    TextKL(),
    HiddenStates(),
    PromptAlignment(),
    InfoNCE(),
    PromptContrast(),
    SourceProbe(),
    Flow(condition_dropout=0.5),
    DecodeAware(every=1, problems=6, tokens=4),
)
STEPS = 4


def trained(trial, world: World, source, target, cut: Cut) -> list[dict[str, float]]:
    """The value and gradient norm of every term, step by step."""
    trainer = build_trainer(trial, source=source, target=target, world=world)
    trainer.micro_batches.cut = cut
    fit(trainer.module, trainer.batches, problems=FITTED_FROM)
    rows = []
    for step in range(STEPS):
        done = trainer.step(step, measure=True, interrupt=False)
        row = {f"{term.loss.name} value": term.value for term in done.terms}
        rows.append(row | {f"{term.loss.name} gradient": term.gradient for term in done.terms} | {"norm": done.gradient_norm})
    return rows


def trained_in_parts(world: World, trial) -> list[dict[str, float]]:
    """The same on a worker that needs other micro-batches than the other."""
    source, target = (lm.load(name, device="cpu") for name in (trial.source, trial.target))
    return trained(trial, world, source, target, Cut(problems=3 - 2 * world.rank))


def test_every_loss_is_the_same_on_one_worker_and_on_two_in_micro_batches_of_their_own(trial, source, target):
    flow = HybridDiT(soft_tokens=8, layers=(0, 2), width=32, depth=1, heads=2)
    whole = replace(trial, translator=flow, losses=LOSSES, warmup=2, learning_rate=1e-4)
    one = trained(whole, World(), source, target, Cut(problems=whole.batch))
    assert {name.split()[0] for name in one[-1]} == {"norm", *(loss.name for loss in LOSSES)}
    for rows in on_two_workers(trained_in_parts, whole):
        assert rows[0] == pytest.approx(one[0], rel=1e-4)
        for step in range(STEPS):
            assert rows[step] == pytest.approx(one[step], rel=2e-3), step


@dataclass(frozen=True, kw_only=True)
class Detached(Loss):
    """The trap: a loss logged from `.detach()`. It has a value and no way back."""

    name: ClassVar[str] = "detached"
    weight: float = 1.0

    def count(self, batch) -> int:
        return 1

    def total(self, bridge):
        return bridge.soft_BKD.detach().sum()


@pytest.mark.parametrize("measure", [True, False])
def test_the_trap_a_loss_logged_from_detach_is_named_at_its_third_step(trial, source, target, measure):
    trainer = build_trainer(replace(trial, losses=(AnswerNLL(), Detached())), source=source, target=target, world=World())
    for step in range(2):
        trainer.step(step, measure=measure, interrupt=False)
    with pytest.raises(ValueError, match=r"loss term 'detached' is on .* without gradient after 3 active steps"):
        trainer.step(2, measure=measure, interrupt=False)


@dataclass(frozen=True, kw_only=True)
class Seldom(AnswerNLL):
    """On at every fourth step, and at its third time without gradient."""

    name: ClassVar[str] = "seldom"
    every: int = 4

    def total(self, bridge):
        return super().total(bridge) if bridge.step < 8 else super().total(bridge).detach()


def test_a_periodic_term_is_absent_between_and_proven_at_its_third_time(trial, source, target):
    trainer = build_trainer(replace(trial, losses=(AnswerNLL(), Seldom())), source=source, target=target, world=World())
    for step in range(8):
        names = [term.loss.name for term in trainer.step(step, measure=False, interrupt=False).terms]
        assert names == (["answer", "seldom"] if step % 4 == 0 else ["answer"])
    with pytest.raises(ValueError, match=r"'seldom' .* after 3 active steps"):
        trainer.step(8, measure=False, interrupt=False)


@dataclass(frozen=True, kw_only=True)
class Nothing(AnswerNLL):
    """Finds nothing to measure."""

    def count(self, batch) -> int:
        return 0


def test_a_term_with_nothing_to_measure_is_refused_by_name(trial, source, target):
    trainer = build_trainer(replace(trial, losses=(Nothing(),)), source=source, target=target, world=World())
    with pytest.raises(ValueError, match="loss term 'answer' finds nothing in the batch of step 1"):
        trainer.step(0, measure=False, interrupt=False)


def sets_of_losses(trial) -> set[tuple[Loss, ...]]:
    """Which terms are on at the steps of a trial."""
    return {tuple(loss for loss in trial.losses if active(loss, step, warmup=trial.warmup)) for step in range(trial.steps)}


@pytest.mark.parametrize("path", sorted((HOUSE / "sweeps").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_steps_of_every_sweep_read_answers_and_repetitions_together_where_the_losses_of_both_are_on(path):
    """One pass for both rounds otherwise than two: read in another way, a trial that has run would have other numbers."""
    sweep = load(path)
    trials = [trial for scale in SCALES if scale.name in sweep.axes for trial in sweep.trials(scale)]
    if sweep.follow_up:
        trials += sweep.follow_up([(trial, {"best": 0.0}) for trial in trials])
    found = {losses for trial in trials for losses in sets_of_losses(trial)}
    assert found
    for losses in found:
        names = {loss.name for loss in losses}
        assert read_together(losses) == ("reconstruction" in names and bool({"answer", "text_kl"} & names))
