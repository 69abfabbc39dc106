"""Every loss: parity with a naive formula, masks, gradients, weights; then the trap each is built around."""

from dataclasses import dataclass, replace
from itertools import pairwise
from unittest import mock

import pytest
import torch
from bridges import alone, bridge_of, naive_nll, soft_of

from raybridge.config import rebuild, resolve
from raybridge.losses import active, read_together
from raybridge.losses.alignment import PromptAlignment, SourceProbe
from raybridge.losses.bridge import SHARED_TOKENS
from raybridge.losses.contrastive import InfoNCE, PromptContrast
from raybridge.losses.distillation import HiddenStates, TextKL
from raybridge.losses.next_token import AnswerNLL, FadingText, FirstTokens, Format, Reconstruction, ResidualAnswer, mark_places
from raybridge.losses.on_policy import DecodeAware

ALONE = [  # terms that do not compare problems with each other
    AnswerNLL(),
    Reconstruction(),
    FirstTokens(),
    Format(),
    FadingText(steps=4),
    TextKL(),
    HiddenStates(),
    PromptAlignment(),
    DecodeAware(tokens=6),
    ResidualAnswer(),
]

ACROSS = [InfoNCE(), PromptContrast(), SourceProbe()]

LOSSES = [*ALONE, *ACROSS]

all_losses = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def test_next_token_losses_equal_the_naive_formula(batches, target):
    problems = batches.problems[:5]
    soft = soft_of(target, 5)
    bridge = bridge_of(batches, target, problems, soft)
    for loss, after, rows in (
        (AnswerNLL(), bridge.after, bridge.batch.answers),
        (Reconstruction(), bridge.after_repeat, bridge.batch.repeats),
    ):
        naive = sum(naive_nll(target, soft[i], bridge.before, after, row) for i, row in enumerate(rows))
        assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-4)
        assert loss.count(bridge.batch) == sum(len(row) for row in rows)


def test_only_the_first_tokens_count_where_the_loss_says_so(batches, target):
    problems = batches.problems[:3]
    soft = soft_of(target, 3)
    bridge = bridge_of(batches, target, problems, soft)
    short = AnswerNLL(max_tokens=4)
    naive = sum(naive_nll(target, soft[i], bridge.before, bridge.after, row[:4]) for i, row in enumerate(bridge.batch.answers))
    assert short.total(bridge).item() == pytest.approx(naive, rel=1e-4)
    assert short.count(bridge.batch) == 12


@pytest.mark.parametrize("loss", ALONE, ids=lambda loss: loss.name)
def test_padding_changes_nothing(batches, target, loss):
    """Terms that do not compare across problems: the batch's sum is the sum of the problems alone."""
    problems = sorted(batches.problems[:40], key=lambda p: len(p.question))[::13]
    soft = soft_of(target, len(problems))
    together = loss.total(bridge_of(batches, target, problems, soft)).item()
    alone = [loss.total(bridge_of(batches, target, [p], soft[i : i + 1])).item() for i, p in enumerate(problems)]
    assert together == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("loss", ACROSS, ids=lambda loss: loss.name)
def test_padding_changes_nothing_where_problems_are_compared(batches, target, loss):
    """A longer question at the end pads the others; the pads may hold anything."""
    problems = sorted(batches.problems[:6], key=lambda p: len(p.question))
    soft = soft_of(target, 6)
    bridge = bridge_of(batches, target, problems, soft)
    filled = alone(replace(bridge, states_BTLS=torch.where(bridge.mask_BT[..., None, None], bridge.states_BTLS, 1e3)))
    assert loss.total(filled).item() == pytest.approx(loss.total(bridge).item(), rel=1e-6)


@all_losses
def test_the_trap_a_loss_that_trains_nothing(batches, target, loss):
    soft = soft_of(target, 4)
    loss.total(bridge_of(batches, target, batches.problems[:4], soft)).backward()
    assert soft.grad.flatten(1).norm(dim=1).min() > 0


@all_losses
def test_a_loss_checks_itself_and_comes_back_from_json(loss):
    assert rebuild(resolve(loss)) == loss
    with pytest.raises(ValueError, match=f"loss {loss.name}: weight"):
        replace(loss, weight=0.0)


@all_losses
def test_the_trap_a_weight_applied_twice(batches, target, loss):
    """The value does not know its weight: the step applies it, once."""
    soft = soft_of(target, 3)
    value = [
        one.total(bridge_of(batches, target, batches.problems[:3], soft)).item() for one in (loss, replace(loss, weight=7.0))
    ]
    assert value[0] == value[1]


def test_a_question_is_repeated_with_its_end(batches, target):
    batch = batches.tokens(batches.problems[:2])
    for row, question in zip(batch.repeats, batch.target_questions, strict=True):
        assert row == [*question, target.tokenizer.eos_token_id]


def test_first_tokens_equal_the_naive_formula(batches, target):
    problems, soft = batches.problems[:4], soft_of(target, 4)
    bridge = bridge_of(batches, target, problems, soft)
    loss = FirstTokens(tokens=3, first_weight=4.0)
    naive = 0.0
    for i, row in enumerate(bridge.batch.answers):
        nll = [naive_nll(target, soft[i], bridge.before, bridge.after, row[: k + 1]) for k in range(3)]
        naive += 4.0 * nll[0] + nll[2] - nll[0]
    assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-4)
    assert loss.count(bridge.batch) == 4 * (4.0 + 2)


def test_format_is_the_nll_of_the_mark_where_it_stands(batches, target):
    problems, soft = batches.problems[:4], soft_of(target, 4)
    bridge = bridge_of(batches, target, problems, soft)
    naive, count = 0.0, 0
    for i, row in enumerate(bridge.batch.answers):
        places = [k for k, token in enumerate(row) if "#" in target.text([token])]
        assert "".join(target.text([row[k]]) for k in places).strip() == "####"
        count += len(places)
        for k in places:
            naive += naive_nll(target, soft[i], bridge.before, bridge.after, row[: k + 1])
            naive -= naive_nll(target, soft[i], bridge.before, bridge.after, row[:k]) if k else 0.0
    assert Format().total(bridge).item() == pytest.approx(naive, rel=1e-3, abs=1e-7 * count)  # as sure as fp32 can tell
    assert Format().count(bridge.batch) == count


def test_the_mark_is_the_last_one_and_may_be_spread_over_tokens():
    assert mark_places(["a", "##", "##", "b", " #", "###x", "c"], "####") == [4, 5]
    with pytest.raises(ValueError, match=r"the mark '####' does not occur in the answer 'a b'"):
        mark_places(["a", "b"], "####")


def test_fading_text_starts_with_the_whole_question_and_ends_without_it(batches, target):
    problems, soft = batches.problems[:3], soft_of(target, 3)
    loss = FadingText(steps=10)
    kept = [[len(row) for row in loss.kept([range(20), range(7)], step)] for step in range(12)]
    assert kept[0] == [20, 7]
    assert kept[10] == kept[11] == [0, 0]
    assert all(a >= b for one, other in pairwise(kept) for a, b in zip(one, other, strict=True))
    assert all(one != other for one, other in pairwise(kept[:11]))
    bridge = bridge_of(batches, target, problems, soft, step=0)
    naive = sum(
        naive_nll(target, torch.cat([soft[i], target.embed(torch.tensor(q))]), bridge.before, bridge.after, row)
        for i, (q, row) in enumerate(zip(bridge.batch.target_questions, bridge.batch.answers, strict=True))
    )
    assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-4)
    after = replace(bridge, step=10)
    assert loss.total(after).item() == AnswerNLL().total(after).item()


def test_losses_of_a_step_share_one_pass_of_student_and_teacher(batches, target):
    bridge = bridge_of(batches, target, batches.problems[:3], soft_of(target, 3))
    with mock.patch.object(
        type(target), "continuation_states", autospec=True, side_effect=type(target).continuation_states
    ) as read:
        for loss in (AnswerNLL(), FirstTokens(), Format(), TextKL(), HiddenStates(), FadingText(steps=1)):
            loss.total(bridge)
    assert read.call_count == 2


def test_answers_and_repetitions_read_in_one_pass_are_what_two_passes_read(batches, target):
    losses = (AnswerNLL(), Reconstruction(), Reconstruction(max_tokens=5), TextKL())
    found = []
    for together in (False, True):
        soft = soft_of(target, 5)
        bridge = replace(bridge_of(batches, target, batches.problems[:5], soft), together=together)
        with mock.patch.object(
            type(target), "continuation_states", autospec=True, side_effect=type(target).continuation_states
        ) as read:
            totals = torch.stack([loss.total(bridge) for loss in losses])
        assert read.call_count == (2 if together else 3)  # the teacher's pass is its own
        (gradient,) = torch.autograd.grad(totals.sum(), soft)
        found.append((totals.detach(), gradient))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@all_losses
def test_a_loss_reads_what_it_declares(batches, target, loss):
    bridge = bridge_of(batches, target, batches.problems[:3], soft_of(target, 3))
    loss.total(bridge)
    held = {"answers": "student", "repeats": "repeated"}
    assert loss.reads == {read for read, name in held.items() if name in vars(bridge)}
    assert loss.compares == ("everyone" in vars(bridge))


def test_answers_and_repetitions_are_read_together_where_both_are_read_at_every_step():
    assert read_together([AnswerNLL(), InfoNCE(), Reconstruction()])
    assert read_together([Reconstruction(), TextKL()])
    assert not read_together([AnswerNLL(), TextKL()])
    assert not read_together([Reconstruction()])
    assert not read_together([FadingText(steps=1), Reconstruction(), ResidualAnswer()])


def test_an_answer_loss_that_looks_beyond_the_shared_pass_reads_on_its_own(batches, target):
    bridge = bridge_of(batches, target, batches.problems[:2], soft_of(target, 2))
    beyond = AnswerNLL(max_tokens=SHARED_TOKENS + 1).total(bridge)
    assert beyond.item() == pytest.approx(AnswerNLL().total(bridge).item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"loss text_kl: it can look at 1..256 answer tokens, not 257"):
        TextKL(max_tokens=SHARED_TOKENS + 1)


@dataclass(frozen=True, kw_only=True)
class Seldom(AnswerNLL):
    every: int = 3


def test_a_periodic_loss_is_on_at_each_nth_step():
    assert [active(Seldom(), step, warmup=0) for step in range(7)] == [True, False, False, True, False, False, True]
    assert [active(InfoNCE(), step, warmup=4) for step in range(4)] == [False, False, True, True]
