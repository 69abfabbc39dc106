"""Steps whose target computes the beginning of answer and repetition once: the values and gradients of steps that do not."""

from __future__ import annotations

from dataclasses import replace

import built
import by_formula
import pytest
import tiny_lms
import torch
from shown import Shown

from raybridge.losses.distillation import TextKL
from raybridge.losses.next_token import AnswerNLL, FirstTokens, Reconstruction
from raybridge.models import packed_lent, packed_prefix, packing
from raybridge.training.micro_batches import Cut
from raybridge.training.step import build_trainer
from raybridge.world import World

CUTS = {"whole": Cut(problems=8), "parts": Cut(problems=3), "recomputed": Cut(problems=2, recomputed=True)}


@pytest.fixture
def packs(monkeypatch, target):
    """Call it to let the passes of the target pack, by formulas."""

    def start() -> None:
        monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
        for module in (packed_lent, packed_prefix):
            monkeypatch.setattr(module, "flash", by_formula.forward)
            monkeypatch.setattr(module, "backward", by_formula.backward)
        monkeypatch.setitem(vars(target), "packs", True)
        vars(target).pop("shares_beginnings", None)

    yield start
    vars(target).pop("shares_beginnings", None)


def stepped(trial, source, target, cut: Cut, *, measure: bool):
    trainer = build_trainer(trial, source=source, target=target, world=World())
    built.awake(trainer.module)
    trainer.micro_batches.cut = cut
    done = trainer.step(0, measure=measure, interrupt=False)
    return done, torch.cat([p.grad.flatten() for p in trainer.parameters])


@pytest.mark.parametrize("exemplars", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_values_and_gradients_are_those_of_two_sequences(trial, source, target, packs, monkeypatch, cut, exemplars):
    losses = (AnswerNLL(), Reconstruction(weight=0.3), FirstTokens(), TextKL())
    trial = replace(trial, evaluator=Shown(train=64, dev=8, test=8), exemplars=exemplars, losses=losses, warmup=0, clip=1e9)
    wanted, gradient = stepped(trial, source, target, Cut(problems=8), measure=True)
    packs()
    rows, passed = [], type(target).passed_row
    monkeypatch.setattr(type(target), "passed_row", lambda self, row, told: rows.append(row) or passed(self, row, told))
    for measure in (True, False):
        done, found = stepped(trial, source, target, CUTS[cut], measure=measure)
        for term, other in zip(done.terms, wanted.terms, strict=True):
            assert term.value == pytest.approx(other.value, rel=1e-5), term.loss.name
            assert not measure or term.gradient == pytest.approx(other.gradient, rel=1e-4), term.loss.name
        assert (found - gradient).norm() < 1e-4 * gradient.norm()
    assert bool(rows) == (not exemplars)  # behind exemplars, which repetitions do without, an answer begins otherwise
