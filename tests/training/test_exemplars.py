"""Exemplars before the questions of training: as evaluation frames them, read once, and the same loss and gradient."""

from __future__ import annotations

from dataclasses import replace

import by_formula
import pytest
import tiny_lms
import torch
from bridges import naive_nll
from shown import Shown

from raybridge.losses.distillation import TextKL
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.models import packed_lent, packing
from raybridge.models.prompts import frame
from raybridge.training.batches import Batches, check_seams
from raybridge.training.step import build_trainer
from raybridge.world import World


@pytest.fixture
def shown(trial):
    return replace(trial, evaluator=Shown(train=64, dev=8, test=8), exemplars=True)


@pytest.fixture
def asked(shown, source, target):
    """A bridge of three problems and a text, its soft tokens leaves."""

    def bridge(**fields):
        trainer = build_trainer(replace(shown, **fields), source=source, target=target, world=World())
        batch = trainer.batches.tokens([*trainer.batches.problems[:3], "A text of Mia and 12 pens."])
        made = trainer.bridge(batch, 0, trainer.trial.losses)
        return replace(made, soft_BKD=made.soft_BKD.detach().requires_grad_())

    return bridge


def concatenated(target, before, soft, after, row) -> torch.Tensor:
    """The NLL of one row by transformers, which reads the exemplars with it."""
    embeds = torch.cat([target.embed(torch.tensor(before)), soft, target.embed(torch.tensor([*after, *row]))])
    logits = target.model(inputs_embeds=embeds[None]).logits[0, -len(row) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(row), reduction="sum")


def test_loss_and_gradient_are_those_of_the_whole_text_by_transformers(asked, target):
    bridge = asked()
    assert bridge.lent is not None
    around = frame(target, Shown(), exemplars=Shown().exemplars())
    assert bridge.before == around.before
    assert all(shot.rationale in target.text(bridge.before) for shot in Shown().exemplars())
    loss = AnswerNLL().total(bridge)
    (gradient,) = torch.autograd.grad(loss, bridge.soft_BKD)
    soft = bridge.soft_BKD.detach().requires_grad_()
    rows = [(i, row) for i, row in enumerate(bridge.batch.answers) if row]
    assert len(rows) == 3
    naive = sum(concatenated(target, around.before, soft[i], around.after, row) for i, row in rows)
    (wanted,) = torch.autograd.grad(naive, soft)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-4)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())
    assert not gradient[3].any()  # a text has no answer


def test_questions_are_repeated_without_exemplars_and_by_texts_too(asked, target, shown):
    bridge = asked()
    before = frame(target, Shown()).before
    naive = sum(
        naive_nll(target, bridge.soft_BKD[i].detach(), before, bridge.after_repeat, row)
        for i, row in enumerate(bridge.batch.repeats)
    )
    assert len(bridge.batch.repeats) == 4
    assert Reconstruction().total(bridge).item() == pytest.approx(naive, rel=1e-4)


def test_a_target_that_cannot_share_reads_them_in_every_row(asked, target, monkeypatch, caplog):
    once = {loss.name: loss.total(asked()).item() for loss in (AnswerNLL(), TextKL())}
    monkeypatch.setattr(target, "shares_prompts", False)
    bridge = asked()
    assert bridge.lent is None
    assert "every row reads them again" in caplog.text
    for loss in (AnswerNLL(), TextKL()):
        assert loss.total(bridge).item() == pytest.approx(once[loss.name], rel=1e-4)


def test_without_exemplars_nothing_is_lent(asked):
    assert asked(exemplars=False).lent is None
    assert asked(evaluator=replace(Shown(train=64, dev=8, test=8)), exemplars=False).before_repeat is None


def test_a_tokenizer_that_splits_questions_otherwise_behind_exemplars_is_refused(shown, source, target):
    batches = Batches(shown, source, target)
    with pytest.raises(ValueError, match="splits a question otherwise behind exemplars"):
        check_seams(batches.repeat, batches.asked, batches.problems[:1])


@pytest.fixture
def flash(monkeypatch):
    """The two calls of flash attention by their formulas."""
    monkeypatch.setattr(packed_lent, "flash", by_formula.forward)
    monkeypatch.setattr(packed_lent, "backward", by_formula.backward)


def test_the_parts_of_a_softmax_joined_go_back_as_the_whole(flash):
    torch.manual_seed(0)
    H, G, E, P, lengths = 4, 2, 8, 7, [3, 1, 5]
    N, scale = sum(lengths), E**-0.5
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    q, k, v = (torch.randn(N, heads, E, dtype=torch.float64, requires_grad=True) for heads in (H, G, G))
    keys, values = (torch.randn(P, G, E, dtype=torch.float64) for _ in range(2))
    out, _ = packed_lent.attend(q, k, v, keys, values, bounds, 128, scale)
    up = torch.randn_like(out)
    found = torch.autograd.grad((out * up).sum(), [q, k, v])
    rows = []
    for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        every = [torch.cat([lent, own[a:b]]).repeat_interleave(H // G, 1) for lent, own in ((keys, k), (values, v))]
        sees = torch.cat([torch.ones(b - a, P), torch.ones(b - a, b - a).tril()], dim=1).bool()
        scores = (torch.einsum("nhe,mhe->hnm", q[a:b], every[0]) * scale).masked_fill(~sees, -torch.inf)
        rows.append(torch.einsum("hnm,mhe->nhe", scores.softmax(-1), every[1]))
    whole = torch.cat(rows)
    torch.testing.assert_close(out, whole, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, torch.autograd.grad((whole * up).sum(), [q, k, v]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_packed_passes_attend_to_what_is_lent_as_padded_ones_do(asked, target, flash, monkeypatch):
    def of(bridge):
        loss = AnswerNLL().total(bridge)
        return loss.item(), torch.autograd.grad(loss, bridge.soft_BKD)[0]

    padded, wanted = of(asked())
    monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
    monkeypatch.setitem(vars(target), "packs", True)
    bridge = asked()
    assert bridge.lent.packs
    packed, gradient = of(bridge)
    assert packed == pytest.approx(padded, rel=1e-4)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
