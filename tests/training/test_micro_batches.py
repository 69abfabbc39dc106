"""Micro-batches: values and gradients whatever the cut, and the cut that is found where memory ends."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass, replace
from typing import ClassVar

import built
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from two_workers import on_two_workers

from raybridge.losses.alignment import PromptAlignment, SourceProbe
from raybridge.losses.contrastive import InfoNCE, PromptContrast
from raybridge.losses.distillation import HiddenStates, TextKL
from raybridge.losses.flow import Flow
from raybridge.losses.next_token import AnswerNLL, FadingText, FirstTokens, Format, Reconstruction, ResidualAnswer
from raybridge.losses.on_policy import DecodeAware
from raybridge.losses.other_target import OtherTarget
from raybridge.models import lm
from raybridge.results.machine import Machine
from raybridge.training.batches import Batches
from raybridge.training.micro_batches import Cut, MicroBatches, on_machine
from raybridge.training.step import build_trainer
from raybridge.translators.hybrid_dit import HybridDiT
from raybridge.translators.injection import Injection
from raybridge.translators.interlingua import Interlingua
from raybridge.translators.linear import Linear
from raybridge.world import World, agreed

OTHER = "pocket:source"
SHAPE = dict(soft_tokens=6, layers=(0, 2), width=32, depth=1, heads=2)
TRAINED = {
    "every loss on the target": (
        HybridDiT(**SHAPE),
        (
            *(AnswerNLL(), Reconstruction(), FirstTokens(), Format(), FadingText(steps=2), TextKL(), HiddenStates()),
            *(PromptAlignment(), InfoNCE(), PromptContrast(), SourceProbe(), Flow(condition_dropout=0.5)),
            DecodeAware(every=1, problems=6, tokens=3),
        ),
    ),
    "onto text": (
        Injection(translator=Linear(soft_tokens=4, layers=(0, 1), pooling="mean"), target_layers=(2, 0), rank=3),
        (AnswerNLL(), ResidualAnswer()),
    ),
    "another target": (
        Interlingua(**SHAPE, latent_width=24, also=(OTHER,)),
        (InfoNCE(), OtherTarget(target=OTHER, loss=PromptContrast())),
    ),
    "no comparison": (Linear(soft_tokens=4, layers=(0, 1), pooling="mean"), (AnswerNLL(), Reconstruction())),
}


def stepped(trial, source, target, cut: Cut | None, *, measure: bool = True):
    """What a step of an awake translator came to, and its gradient."""
    trainer = build_trainer(trial, source=source, target=target, world=World())
    built.awake(trainer.module)
    if cut:
        trainer.micro_batches.cut = cut
    done = trainer.step(0, measure=measure, interrupt=False)
    return done, torch.cat([p.grad.flatten() for p in trainer.parameters])


@pytest.mark.parametrize("trained", TRAINED)
def test_values_and_gradients_are_the_same_whatever_the_cut(trial, source, target, trained):
    translator, losses = TRAINED[trained]
    trial = replace(trial, translator=translator, losses=losses, warmup=0, clip=1e9)
    whole, wanted = stepped(trial, source, target, Cut(problems=8))
    for cut, measure in ((Cut(problems=3, recomputed=True), True), (Cut(problems=1), False)):
        done, gradient = stepped(trial, source, target, cut, measure=measure)
        for term, other in zip(done.terms, whole.terms, strict=True):
            assert term.value == pytest.approx(other.value, rel=1e-4), term.loss.name
            assert not measure or term.gradient == pytest.approx(other.gradient, rel=1e-4), term.loss.name
        assert (gradient - wanted).norm() < 1e-4 * wanted.norm()


def test_no_pass_of_the_target_reads_more_problems_than_the_cut_says(trial, source, target, monkeypatch):
    read, rows = type(target).continuation_states, []

    def counting(self, pieces, given, **how):
        rows.append(len(given))
        return read(self, pieces, given, **how)

    monkeypatch.setattr(type(target), "continuation_states", counting)
    stepped(replace(trial, losses=(AnswerNLL(),)), source, target, Cut(problems=3))
    assert rows == [3, 3, 2]


@dataclass(frozen=True, kw_only=True)
class Watching(AnswerNLL):
    """Keeps count of the bridges that are still there when the next comes."""

    name: ClassVar[str] = "watching"

    def total(self, bridge):
        assert not [seen for seen in SEEN if seen() is not None]
        SEEN.append(weakref.ref(bridge.student.hidden_BAD))
        return super().total(bridge)


SEEN: list[weakref.ref] = []


@pytest.mark.parametrize("measure", [True, False])
def test_what_one_micro_batch_computed_is_freed_before_the_next(trial, source, target, measure):
    SEEN.clear()
    losses = (Watching(), Reconstruction())
    stepped(replace(trial, losses=losses), source, target, Cut(problems=2), measure=measure)
    assert len(SEEN) == 4


def test_a_text_without_an_answer_may_stand_alone_in_its_micro_batch(trial, source, target, monkeypatch):
    losses = [loss for loss in TRAINED["every loss on the target"][1] if loss.name not in ("flow", "format")]
    linear = Linear(soft_tokens=4, layers=(0, 1), pooling="mean")
    trial, tokens = replace(trial, translator=linear, losses=losses, warmup=0), Batches.tokens

    def first_without(batches, problems, **told):
        batch = tokens(batches, problems, **told)
        return replace(batch, answers=[[], *batch.answers[1:]], answer_pieces=[[], *batch.answer_pieces[1:]])

    monkeypatch.setattr(Batches, "tokens", first_without)
    whole, parts = (stepped(trial, source, target, Cut(problems=problems))[0] for problems in (8, 1))
    assert [term.value for term in parts.terms] == pytest.approx([term.value for term in whole.terms], rel=1e-4)


def test_the_rule_halves_to_four_problems_then_recomputes_then_halves_further():
    cut, found = Cut(problems=32), []
    while cut:
        found.append((cut.problems, cut.recomputed))
        cut = cut.smaller(32)
    assert found == [(32, False), (16, False), (8, False), (4, False)] + [(n, True) for n in (32, 16, 8, 4, 2, 1)]
    assert Cut(problems=7).smaller(7) == Cut(problems=4)
    assert Cut(problems=5).smaller(5) == Cut(problems=5, recomputed=True)
    assert Cut(problems=1).smaller(1) == Cut(problems=1, recomputed=True)


@given(share=st.integers(1, 70), problems=st.integers(1, 80))
def test_micro_batches_are_the_share_in_order(share, problems):
    parts = Cut(problems=problems).parts(share)
    assert [row for part in parts for row in part] == list(range(share))
    assert max(map(len, parts)) <= problems


def takes(most: int, *, recomputed: int = 0):
    """Work that takes so many problems at once, or so many where layers are recomputed; it returns a draw."""

    def work(cut: Cut) -> float:
        drawn = torch.rand(()).item()
        if cut.problems > (recomputed if cut.recomputed else most):
            raise torch.OutOfMemoryError("out of memory")
        return drawn

    return work


def test_the_largest_that_fits_is_found_said_once_and_kept_for_the_next(tmp_path, caplog):
    torch.manual_seed(0)
    first = torch.rand(()).item()
    machine = Machine(root=tmp_path, facts={"device": "a", "share": 16})
    micro_batches = MicroBatches(share=16, machine=machine)
    assert machine.fits() is None
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.manual_seed(0)
            assert micro_batches.within(takes(3, recomputed=8)) == first  # the random state of the first try
    assert [record.message for record in caplog.records] == [
        "16 problems a pass of the target: more than the memory of cpu; from here on "
        "8 problems a pass of the target, its layers computed again on the way back"
    ]
    assert machine.fits() == (8, True)
    assert MicroBatches(share=16, machine=machine).cut == Cut(problems=8, recomputed=True)
    assert MicroBatches(share=16, machine=replace(machine, facts={"device": "b", "share": 16})).cut == Cut(problems=16)


def test_a_size_is_kept_for_trials_that_need_as_much_memory(trial, tmp_path):
    path = on_machine(trial, World(), tmp_path).machine.path
    assert path.parent == tmp_path / "machines"
    assert on_machine(replace(trial, name="other", seed=5, steps=20, learning_rate=1.0), World(), tmp_path).machine.path == path
    longer = replace(trial, translator=replace(trial.translator, soft_tokens=9))
    asked = [on_machine(trial, World(size=2), tmp_path), on_machine(longer, World(), tmp_path)]
    assert len({path, *(one.machine.path for one in asked)}) == 3
    beside_a_source, from_disk = (on_machine(trial, World(), tmp_path, held=held).machine.path for held in (43.3, 39.8))
    assert len({path, beside_a_source, from_disk}) == 3, "what fits beside a source says nothing of a worker without it"
    assert [one.cut for one in asked] == [Cut(problems=4), Cut(problems=8)]


def test_what_fits_at_once_is_neither_said_nor_kept(tmp_path, caplog):
    MicroBatches(share=16, machine=Machine(root=tmp_path, facts={})).within(takes(16))
    assert not caplog.records
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_at_all_says_what_would_help():
    with pytest.raises(
        ValueError, match=r"1 problem a pass of the target, its layers .* does not fit the memory of cpu: fewer"
    ):
        MicroBatches(share=16).within(takes(0))


@pytest.mark.parametrize("content", ['{"problems": 0, "recomputed": false}', '{"problems": 4, "recomputed": 1}'])
def test_a_kept_size_that_is_none_is_refused_by_its_file(tmp_path, content):
    machine = Machine(root=tmp_path, facts={})
    machine.path.parent.mkdir()
    machine.path.write_text(content)
    with pytest.raises(ValueError, match=f"{machine.path}.* delete it"):
        machine.fits()


@dataclass(frozen=True, kw_only=True)
class Greedy(AnswerNLL):
    """Takes so many problems at once on rank 1, and any number on rank 0."""

    name: ClassVar[str] = "greedy"
    takes: int

    def total(self, bridge):
        if bridge.world.rank == 1 and len(bridge.soft_BKD) > self.takes:
            raise torch.OutOfMemoryError("out of memory")
        return super().total(bridge)


def values_or_error(world: World, trial, source, target):
    """The terms of two steps and how many problems a pass took, or what ended them."""
    trainer = build_trainer(trial, source=source, target=target, world=world)
    try:
        steps = [trainer.step(number, measure=number == 0, interrupt=False) for number in range(2)]
    except ValueError as error:
        return str(error), agreed(error)
    return trainer.micro_batches.cut, [term.value for step in steps for term in step.terms]


@dataclass(frozen=True, kw_only=True)
class Refusing(AnswerNLL):
    """Refuses what rank 1 has."""

    name: ClassVar[str] = "refusing"

    def total(self, bridge):
        if bridge.world.rank == 1:
            raise ValueError("refused here")
        return super().total(bridge)


def ends(world: World, trials):
    """What becomes of each of these trials, all of one pair."""
    source, target = (lm.load(name, device="cpu") for name in (trials[0].source, trials[0].target))
    return [values_or_error(world, trial, source, target) for trial in trials]


def test_where_memory_ends_on_one_worker_alone_none_hangs(trial, source, target):
    """It reads fewer problems at once, and the step is the same; where nothing helps, both end with its sentence."""
    asked = [Greedy(takes=99), Greedy(takes=4), Greedy(takes=0), Refusing()]
    trials = [replace(trial, losses=(AnswerNLL(), InfoNCE(), loss), warmup=0, batch=16) for loss in asked]
    whole, values = values_or_error(World(), trials[0], source, target)
    assert whole == Cut(problems=16)
    first, second = on_two_workers(ends, trials)
    assert [cut for cut, _ in (*first[:2], *second[:2])] == [Cut(problems=8), Cut(problems=8), Cut(problems=8), Cut(problems=4)]
    for _, found in (*first[:2], *second[:2]):
        assert found == pytest.approx(values, rel=1e-4)
    assert first[2:] == second[2:]
    assert first[2][0].startswith("1 problem a pass of the target")
    assert first[2][1]
    assert first[3] == ("refused here", True)


def test_memory_that_can_be_done_without_is_given_back_before_a_share_is_cut(caplog):
    left, tried = [True, False, False], []

    def work(cut):
        tried.append(cut.problems)
        if len(tried) < 3:
            raise torch.OutOfMemoryError
        return cut.problems

    batches = MicroBatches(share=16, release=lambda: left.pop(0))
    assert batches.within(work) == 8
    assert tried == [16, 16, 8]
    assert caplog.text.count("more than the memory") == 1
