"""A trained translator as an object: what it writes and answers is what an evaluation of its trial reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bundled import once
from small_bridge import QUESTIONS, finished

import raybridge
from raybridge.arms import find
from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import setting_of
from raybridge.evaluation.trained import best_of, trial_of
from raybridge.models.decode import greedy
from raybridge.models.pieces import Piece
from raybridge.models.prompts import frame
from raybridge.results import Results
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.injection import Injection
from raybridge.translators.residual import Residual


@pytest.fixture(scope="module")
def bridge(run):
    return raybridge.load(run.path, device="cpu")


@pytest.fixture(scope="module")
def of_evaluation(run):
    """Its trial's setting on test, and the rows of the bridged arm as an evaluation computes them."""
    trial, trained, models = trial_of(run), best_of(run), Models("cpu")
    setting = setting_of(trial, "test")

    def rows(arm: str) -> dict[str, str]:
        (request,) = setting.requests([find(arm)])
        return {row["problem"]: row["completion"] for row in answer(request, models, trained.weights)}

    return setting, rows


def test_answers_are_those_of_an_evaluation(bridge, of_evaluation):
    setting, rows = of_evaluation
    answers = bridge.answer([problem.question for problem in setting.problems])
    assert answers == [rows("bridged")[problem.id] for problem in setting.problems]
    assert len(set(answers)) > 1  # they depend on the question


def test_soft_tokens_are_what_the_translator_makes_of_the_sources_states(bridge, run):
    trial = trial_of(run)
    source = bridge.models.load(trial.source)
    soft_BKD = bridge.soft_tokens(QUESTIONS)
    assert soft_BKD.shape == (3, 8, bridge.models.load(trial.target).width)
    for question, soft_KD in zip(QUESTIONS, soft_BKD, strict=True):
        around = frame(source, trial.evaluator)
        states = source.hidden_states(around.before, [around.question(question)], trial.translator.layers)
        module = trial.translator.build(source.width, soft_KD.shape[1], target_rms=bridge.reader.embedding_rms)
        module.load_state_dict(best_of(run).weights)
        with torch.no_grad():
            torch.testing.assert_close(soft_KD, module.eval()(*states)[0], rtol=1e-4, atol=1e-5)


def test_many_questions_come_back_in_their_order_and_the_same_one_twice(bridge, monkeypatch):
    alone = {question: bridge.answer([question])[0] for question in QUESTIONS}
    monkeypatch.setattr("raybridge.interface.bridge.BATCH", 2)
    monkeypatch.setattr("raybridge.evaluation.prompt.AT_ONCE", 90)  # characters: parts of one or two questions
    asked = [QUESTIONS[0], QUESTIONS[1], QUESTIONS[1], QUESTIONS[2], QUESTIONS[0]]
    assert bridge.answer(asked) == [alone[question] for question in asked]
    soft_BKD = bridge.soft_tokens(asked)
    torch.testing.assert_close(soft_BKD[1], soft_BKD[2])
    torch.testing.assert_close(soft_BKD[0], soft_BKD[4])
    assert not torch.allclose(soft_BKD[0], soft_BKD[1])


def test_embedded_prompts_are_the_frame_around_the_soft_tokens(bridge, run):
    trial, target = trial_of(run), bridge.models.load(bridge.target)
    around, soft_BKD = frame(target, trial.evaluator), bridge.soft_tokens(QUESTIONS)
    for prompt_TD, soft_KD in zip(bridge.embedded(QUESTIONS), soft_BKD, strict=True):
        before_TD, after_TD = (target.embed(torch.tensor(part)) for part in (around.before, around.after))
        torch.testing.assert_close(prompt_TD, torch.cat([before_TD, soft_KD, after_TD]))


def test_a_trial_its_name_and_its_bundle_are_the_same_bridge(tmp_path_factory, tmp_path):
    run, bundle = once(tmp_path_factory.getbasetemp())
    trial, named, bundled = (
        raybridge.load(of, results=run.root, device="cpu") for of in (run.path, run.path.name, str(bundle))
    )
    assert trial.answer(QUESTIONS) == named.answer(QUESTIONS) == bundled.answer(QUESTIONS)
    assert repr(bundled) == repr(trial) == f"<raybridge {run.path.name} at step 4: pocket:source to pocket:target, K=4>"


def test_another_benchmarks_frame_stands_around_the_question(run, monkeypatch, tmp_path):
    (tmp_path / "svamp").mkdir()
    other = raybridge.load(run.path, device="cpu", on="svamp")
    assert other.evaluator.name == "svamp"
    target = other.models.load(other.target)
    (prompt_TD,) = other.embedded(QUESTIONS[:1], shots=False)
    around = frame(target, other.evaluator)
    assert len(prompt_TD) == len(around.before) + other.size + len(around.after)


@pytest.fixture(scope="module")
def onto(tmp_path_factory, run):
    """By the name of an option, a bridge whose translator adds onto the question's text."""
    inner, root = evenly(trial_of(run).translator), tmp_path_factory.mktemp("onto")
    residual = finished(root, translator=Residual(translator=inner), name="residual_8tok")
    injected = finished(root, translator=Injection(translator=inner, target_layers=(1,)), name="injected_8tok")
    return {kind: raybridge.load(one.path, device="cpu") for kind, one in (("residual", residual), ("injected", injected))}


@pytest.mark.parametrize("kind", ["residual", "injected"])
def test_a_translator_that_adds_onto_the_question_answers_as_it_was_trained(onto, kind):
    bridge = onto[kind]
    assert bridge.arm.name == "bridged_with_text"
    setting = setting_of(bridge.kept.trial, "test")
    (request,) = setting.requests([bridge.arm])
    rows = {row["problem"]: row["completion"] for row in answer(request, Models("cpu"), dict(bridge.kept.weights))}
    assert bridge.answer([problem.question for problem in setting.problems]) == [rows[one.id] for one in setting.problems]


def test_what_is_added_inside_the_target_is_no_prompt_of_embeddings(onto):
    assert [prompt.shape[1] for prompt in onto["residual"].embedded(QUESTIONS)] == [160] * 3
    with pytest.raises(ValueError, match=r"injected_8tok-\w{8}: its translator changes the target inside"):
        onto["injected"].embedded(QUESTIONS)


@pytest.mark.parametrize(
    ("questions", "says"),
    [
        ("How many?", "give a list of questions, not one text"),
        ([], "there are no questions"),
        (["How many?", " "], "question 1 must be text that is not empty"),
        ([None], "question 0 must be text that is not empty, not None"),
    ],
)
def test_what_is_no_question_is_refused(bridge, questions, says):
    for ask in (bridge.answer, bridge.soft_tokens, bridge.embedded):
        with pytest.raises(ValueError, match=says):
            ask(questions)


def test_models_that_are_others_than_it_was_trained_with_are_refused(run, monkeypatch):
    trial = trial_of(run)
    contents = replace(trial.contents, target=replace(trial.contents.target, weights="0" * 64))
    monkeypatch.setattr("raybridge.interface.loading.trial_of", lambda run: replace(trial, contents=contents))
    with pytest.raises(ValueError, match=r"small_8tok-\w{8} was trained with what is not here: .*target"):
        raybridge.load(run.path, device="cpu")


@pytest.mark.parametrize("named", ["nowhere", "./nowhere/at_all"])
def test_what_is_not_there_is_refused_by_its_name(run, named):
    with pytest.raises(ValueError, match=f"unknown trial '{named}'"):
        raybridge.load(named, results=run.root)


def test_a_bundle_without_weights_is_refused(tmp_path_factory, tmp_path):
    from raybridge.evaluation.bundle.export import export

    run, _ = once(tmp_path_factory.getbasetemp())
    export(run, tmp_path / "bare", weights=False)
    with pytest.raises(ValueError, match="its weights are not in it"):
        raybridge.load(tmp_path / "bare")


def test_decoding_an_embedded_prompt_is_the_answer(bridge):
    for question, prompt_TD in zip(QUESTIONS, bridge.embedded(QUESTIONS), strict=True):
        piece = Piece(embeds_BTD=prompt_TD[None], mask_BT=torch.ones(1, len(prompt_TD), dtype=torch.bool))
        limits = {"max_new_tokens": bridge.evaluator.max_new_tokens, "stop": bridge.evaluator.stop}
        (done,) = greedy(bridge.reader, [piece], **limits)
        assert [done.text] == bridge.answer([question])


def test_results_are_found_where_they_are_told(run):
    assert raybridge.load("small_8tok", results=str(run.root), device="cpu").kept.name == run.path.name
    assert Results(run.root).trials()[0].path.name == run.path.name
