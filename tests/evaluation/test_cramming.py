"""Vectors optimised problem by problem: a ceiling that repeats the question, and what it is allowed to see."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from asking import ask
from shown import Shown

from raybridge.arms import find
from raybridge.arms.arm import Arm
from raybridge.arms.controls import partners
from raybridge.evaluation import cramming
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.answering import answer
from raybridge.evaluation.benchmarks import exemplars_of
from raybridge.evaluation.card import arms_of, evaluate
from raybridge.evaluation.cramming import crammed, start
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.setting import Setting, setting_of
from raybridge.models.prefill import lend
from raybridge.models.prompts import REPEAT_CUE, frame
from raybridge.translators.parts import at_rms

pytestmark = pytest.mark.usefixtures("short")
WAYS = ("crammed", "crammed_with_answer")
cramming_nll = cramming.nll


@pytest.fixture(autouse=True)
def nothing_remembered(models):
    models.forget()


@pytest.fixture
def setting(trial) -> Setting:
    whole = setting_of(trial, "dev")
    return replace(whole, problems=whole.problems[:4])


def request_of(setting, *arms):
    (request,) = setting.requests([find(arm) for arm in arms])
    return request


def test_the_target_repeats_the_question_from_crammed_vectors_and_not_from_anothers(setting, models):
    rows = answer(request_of(setting, "crammed", "shuffled_crammed", "zero"), models)
    nll = {
        arm: sum(r["reconstruction_nll"] for r in rows if r["arm"] == arm) for arm in ("crammed", "shuffled_crammed", "zero")
    }
    assert nll["crammed"] < 0.5 * min(nll["shuffled_crammed"], nll["zero"])
    assert {row["soft_tokens"] for row in rows} == {setting.soft_tokens}


def test_vectors_are_those_of_adam_on_each_problem_alone_by_hand(setting, models):
    target, (problem, *_) = models.load(setting.target), setting.problems
    repeat = frame(target, setting.evaluator, after=REPEAT_CUE)
    row = repeat.answer(problem.question)
    x = start(target, [repeat.question(problem.question)], setting.soft_tokens)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    table = target.model.get_input_embeddings()
    before, after, said = (table(torch.tensor([list(ids)])) for ids in (repeat.before, repeat.after, row))
    for step in range(1, cramming.STEPS + 1):
        x.requires_grad_()
        soft = x / x.square().mean(-1, keepdim=True).sqrt() * target.embedding_rms
        logits = target.model(inputs_embeds=torch.cat([before, soft, after, said], dim=1)).logits[:, -len(row) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits[0], torch.tensor(row))
        (g,) = torch.autograd.grad(loss, x)
        first, second = 0.9 * first + 0.1 * g, 0.9 * second + 0.1 * g * g
        x = x.detach() - cramming.RATE * (first / (1 - 0.9**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
    alone = crammed(target, setting, [problem], ("question",))
    torch.testing.assert_close(alone, at_rms(x, target.embedding_rms), rtol=1e-2, atol=1e-3)
    together = crammed(target, setting, setting.problems, ("question",))
    torch.testing.assert_close(together[:1], alone, rtol=1e-2, atol=1e-3)


def test_vectors_stand_at_the_rms_of_embeddings_and_start_as_the_questions_own(setting, models):
    target = models.load(setting.target)
    around = frame(target, setting.evaluator)
    row = around.question(setting.problems[0].question)
    at_start = start(target, [row, row[:3]], 2)
    half = target.embed(torch.tensor(row[: -(-len(row) // 2)])).mean(0)
    torch.testing.assert_close(at_start[0, 0], half / half.square().mean().sqrt())
    assert torch.isfinite(start(target, [row[:3]], 9)).all()  # more vectors than tokens
    placed = ask(request_of(setting, "crammed"), models, "crammed").pieces[0].embeds_BTD
    rms = placed.square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, target.embedding_rms))


def test_rows_do_not_depend_on_the_cut_and_another_problems_vectors_are_its_neighbours(setting, models):
    whole = request_of(setting, "crammed", "shuffled_crammed")
    placed = ask(whole, models, "crammed").pieces[0].embeds_BTD
    shuffled = ask(whole, models, "shuffled_crammed").pieces[0].embeds_BTD
    assert torch.equal(shuffled, placed[partners(len(placed), 0)])
    cut = setting.requests(whole.arms, size=3)
    models.forget()
    parts = [answer(one, models) for one in reversed(cut)]
    by_hand = {(r["arm"], r["problem"]): r for part in parts for r in part}
    models.forget()
    for row in answer(whole, models):
        other = by_hand[row["arm"], row["problem"]]
        assert row["completion"] == other["completion"]
        assert row["nll"] == pytest.approx(other["nll"], rel=2e-2)
    reseeded = ask(request_of(replace(setting, seed=99), "shuffled_crammed"), models, "shuffled_crammed")
    torch.testing.assert_close(reseeded.pieces[0].embeds_BTD, shuffled, rtol=1e-2, atol=1e-3)  # frozen: of no trial


def test_gold_reaches_the_input_of_the_one_arm_that_says_so(setting, models):
    """The trap: another gold and rationale for the same questions. One arm is the exception, by its name and note."""
    forged = tuple(replace(p, gold="123456", rationale="nothing\n#### 123456") for p in setting.problems)
    for arm in ("crammed", "shuffled_crammed", "crammed_with_answer"):
        plain = ask(request_of(setting, arm), models, arm).pieces[0].embeds_BTD
        models.forget()
        other = ask(request_of(replace(setting, problems=forged), arm), models, arm).pieces[0].embeds_BTD
        assert torch.equal(plain, other) == ("answer" not in find(arm).crams)
    assert "gold" in find("crammed_with_answer").note


def test_with_the_answer_the_target_finds_it_likelier(setting, models):
    rows = answer(request_of(setting, *WAYS), models)
    nll = {arm: sum(row["nll"] for row in rows if row["arm"] == arm) for arm in WAYS}
    assert nll["crammed_with_answer"] < 0.9 * nll["crammed"]


def test_an_answer_is_crammed_behind_the_exemplars_it_is_judged_behind(setting, models):
    """As text in every row, or lent: the loss and its gradient are those of one pass over all of it."""
    target, evaluator = models.load(setting.target), Shown(train=8, dev=4, test=4)
    asked = frame(target, evaluator, exemplars=exemplars_of(evaluator))
    assert len(asked.before) > len(frame(target, evaluator).before) + 20
    soft = torch.randn(2, 4, target.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = [[5, 6, 7, 8], [9, 10]]
    ways = [cramming.nll(target, asked, soft, rows, lent) for lent in (None, lend(target, asked.before, longest=64))]
    torch.testing.assert_close(*ways, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(way.sum(), soft)[0] for way in ways), rtol=1e-3, atol=1e-5)
    seen = []
    with mock.patch.object(cramming, "nll", side_effect=lambda *args: seen.append(args) or cramming_nll(*args)):
        crammed(target, replace(setting, evaluator=evaluator), setting.problems[:1], ("question", "answer"))
    assert {(len(args[1].before), args[4] is not None) for args in seen} == {
        (len(frame(target, evaluator, after=REPEAT_CUE).before), False),
        (len(asked.before), True),
    }


def test_vectors_are_optimised_once_for_all_prompts_and_arms(setting, models, monkeypatch):
    made = []

    def counted(target, setting, problems, crams):
        made.append(len(problems))
        return crammed(target, setting, problems, crams)

    monkeypatch.setattr(cramming, "crammed", counted)
    answer(request_of(setting, "crammed", "shuffled_crammed"), models)
    assert made == [4]


def test_ceilings_are_evaluated_where_they_are_named_and_on_no_more_problems_than_they_can(trial, setting, models, results):
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    trained = type("Trained", (), {"run": run, "step": 4, "weights": {}})()
    usual = arms_of(setting, trained, results, bits=[16])
    assert not {*WAYS, "shuffled_crammed"} & {arm.name for arm in usual}
    named = arms_of(setting, trained, results, bits=[16], only=["crammed", "shuffled_crammed"])
    assert [arm.name for arm in named] == ["crammed", "shuffled_crammed"]
    many = replace(setting, problems=setting.problems * 101)
    with pytest.raises(ValueError, match=r"crammed: .*at most 400 problems and not 404; give --problems 400"):
        arms_of(many, trained, results, bits=[16], only=["crammed"])


def test_rows_are_kept_for_every_trial_never_timed_and_the_card_says_what_they_are(setting, models, results, monkeypatch):
    arms = [find("crammed"), find("shuffled_crammed")]
    card = evaluate(setting, None, results, Local(models), arms, timed=1)
    assert any(note.startswith("crammed: a ceiling and no method") for note in card.notes)
    assert card.rows[0]["control"] == "shuffled_crammed"

    def fail(*args):
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr("raybridge.evaluation.answerer.answer", fail)
    again = Keeper(setting=replace(setting, trial="of another", seed=5), results=results, answerer=Local(models), timed=1)
    rows = again.rows(arms)
    assert len(rows) == 2 * len(setting.problems)
    assert "latency_1" not in rows


def test_an_arm_that_is_crammed_reads_nothing_else():
    with pytest.raises(ValueError, match="in the place of text"):
        Arm(name="a", crams=("question",), reads_text=True)
