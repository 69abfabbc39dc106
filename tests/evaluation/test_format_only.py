"""Format alone: a prompt tuned in front of the question's text, trained as it is judged, and lent to other trials' tables."""

from dataclasses import replace

import pytest
import torch
from asking import requests_of, with_arms
from bridges import bridge_of, naive_nll, soft_of
from opened import ENDED

from raybridge.arms import find
from raybridge.config import rebuild
from raybridge.evaluation.answering import answer
from raybridge.evaluation.card import arms_of, lender
from raybridge.evaluation.setting import setting_of
from raybridge.losses.beside_text import AnswerBesideText
from raybridge.models.prompts import frame
from raybridge.scales import POCKET
from raybridge.training.step import build_trainer
from raybridge.translators.format_only import FormatOnly
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.weights import copy_of
from raybridge.world import World
from sweeps import format_only

pytestmark = pytest.mark.usefixtures("short")


@pytest.fixture
def tuned(trial):
    """A trial of format alone."""
    return replace(trial, translator=FormatOnly(soft_tokens=5, layers=(0, 2)), losses=(AnswerBesideText(),))


def test_the_loss_is_the_naive_nll_of_the_answer_behind_soft_tokens_and_question(batches, trial, target):
    problems = batches.problems[:3]
    soft = soft_of(target, 3)
    bridge = replace(
        bridge_of(batches, target, problems, soft), module=PromptTuning(soft_tokens=5).build(1, target.width, target_rms=1.0)
    )
    around = frame(target, trial.evaluator)
    behind = around.behind([problem.question for problem in problems])
    answers = around.answers([problem.rationale for problem in problems])
    naive = [
        naive_nll(target, own, around.before, [*text.question, *text.after], row)
        for own, text, row in zip(soft, behind, answers, strict=True)
    ]
    assert AnswerBesideText().total(bridge).item() == pytest.approx(sum(naive), rel=1e-4)
    assert AnswerBesideText().count(bridge.batch) == sum(map(len, answers))


def test_it_is_trained_as_it_is_judged(tuned, models):
    source, target = models.load(tuned.source), models.load(tuned.target)
    trainer = build_trainer(tuned, source=source, target=target, world=World())
    first = [trainer.step(number, measure=True, interrupt=False).loss for number in range(4)]
    assert first[0] != first[-1]
    (request,) = requests_of(tuned, "dev", "bridged_with_text")
    rows = answer(request, models, copy_of(trainer.module))
    with torch.no_grad():
        batch = trainer.batches.tokens(request.problems)
        total = AnswerBesideText().total(trainer.bridge(batch, 0, tuned.losses)).item()
    assert sum(row["nll"] for row in rows) == pytest.approx(total, rel=1e-4)
    other = answer(with_arms(request, "bridged_with_text", problems=request.problems[::-1]), models, copy_of(trainer.module))
    assert {row["problem"]: row["completion"] for row in rows} == {row["problem"]: row["completion"] for row in other}


def test_it_is_selected_beside_the_text_and_comes_back_from_json(tuned):
    assert tuned.translator.arm == find("format_only").borrows == "bridged_with_text"
    assert rebuild(tuned.resolved()) == tuned


def test_a_trial_of_it_lends_its_rows_and_stands_for_no_constant_prompt(trial, tuned, results):
    run = results.open_trial(name="format", fingerprint=tuned.fingerprint, config=tuned.resolved(), provenance={})
    setting = setting_of(trial, "dev")
    assert lender(find("format_only"), setting, results) is None
    run.finish(ENDED)
    found = lender(find("format_only"), setting, results)
    assert found is not None
    assert found.path == run.path
    assert lender(find("prompt_tuning"), setting, results) is None
    trained = type("Trained", (), {"run": run, "step": 4, "weights": {}})()
    assert "format_only" in {arm.name for arm in arms_of(setting, trained, results, bits=[16])}


def test_its_sweep_differs_from_the_base_in_what_it_asks_alone():
    base = POCKET.trial
    (axes,) = [{name: values[0] for name, values in format_only.axes["pocket"].items()}]
    asked = format_only.trial(base, **axes)
    assert {**vars(asked), "name": 0, "losses": 0, "translator": 0} == {**vars(base), "name": 0, "losses": 0, "translator": 0}
    assert asked.losses == (AnswerBesideText(),)
