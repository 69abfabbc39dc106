"""Equal shots: exemplars are part of the frame of every arm, and what is saved is of the question alone."""

from dataclasses import dataclass, replace

import pytest
import torch
from asking import requests_of, with_arms

from evaluators.pocket import Pocket
from raybridge import arms as arm_files
from raybridge.arms import find
from raybridge.data import Problem
from raybridge.evaluation import answerer
from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import prompt_of
from raybridge.evaluation.scoring import continuation_nll
from raybridge.models.frozen import FrozenLM
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.pieces import join
from raybridge.models.prompts import frame
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.residual import Residual
from raybridge.translators.weights import copy_of

pytestmark = pytest.mark.usefixtures("short")
ASKED = [arm.name for arm in arm_files.every() if arm.borrows is None]


@dataclass(frozen=True, kw_only=True)
class TwoShots(Pocket):
    """Pocket with two of its train problems as exemplars."""

    def exemplars(self) -> list[Problem]:
        return self.problems("train")[:2]


@pytest.fixture
def request_(trial):
    (one,) = requests_of(replace(trial, evaluator=TwoShots()), "dev", "bridged")
    few = one.only(range(3))
    said = tuple(f"#### {i}" for i in range(3))
    return replace(few, blocks=(few.problems,), answers={"source": said, "target": said})


def answered(request, models, weights, arms):
    return {arm: answer(with_arms(request, arm), models, weights) for arm in arms}


def asked_of(request, models, weights, arm):
    asked = with_arms(request, arm)
    return prompt_of(asked, models, find(arm), models.written(asked, weights), shots=True, weights=weights)


def test_every_arm_reads_the_same_exemplars(request_, models, weights):
    target = models.load(request_.setting.target)
    shots = TwoShots().exemplars()
    around = frame(target, TwoShots(), exemplars=shots)
    assert all(shot.rationale in around.before_text for shot in shots)
    by_model: dict[str, set[str]] = {}
    for row in (row for of_arm in answered(request_, models, weights, ASKED).values() for row in of_arm):
        assert row["shots"] == 2
        by_model.setdefault(find(row["arm"]).answered_by, set()).add(row["template_hash"])
    assert [len(hashes) for hashes in by_model.values()] == [1, 1]
    for arm in ("bridged", "bridged_int8", "shuffled", "zero", "bridged_with_text"):
        asked = with_arms(request_, arm)
        prompt = prompt_of(asked, models, find(arm), models.written(asked, weights), shots=True, weights=weights)
        assert prompt.shared == around.before  # soft tokens stand behind them, and all rows share them


@pytest.mark.parametrize("arm", ["bridged", "target", "no_context", "source"])
def test_the_answers_nll_is_that_of_transformers_behind_the_same_exemplars(request_, models: Models, weights, arm):
    asked = with_arms(request_, arm)
    prompt = prompt_of(asked, models, find(arm), models.written(asked, weights), shots=True, weights=weights)
    lm = prompt.lm
    expected = []
    for i, problem in enumerate(request_.problems):
        ids = torch.tensor([prompt.around.answer(problem.rationale)])
        behind = join(prompt.pieces).rows([i])
        before = lm.embed(torch.tensor([prompt.shared]))
        embeds = torch.cat([before, behind.shorter(behind.lengths[0]).embeds_BTD, lm.embed(ids)], dim=1)
        with torch.no_grad():
            logits = lm.model(inputs_embeds=embeds).logits[0, -ids.shape[1] - 1 : -1]
        expected.append(torch.nn.functional.cross_entropy(logits, ids[0], reduction="sum").item())
    found = [row["nll"] for row in answer(asked, models, weights)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_exemplars_are_read_once_where_nll_is_measured(request_, models, weights, monkeypatch):
    asked = with_arms(request_, "bridged")
    prompt = prompt_of(asked, models, find("bridged"), models.written(asked, weights), shots=True, weights=weights)
    answers = prompt.around.answers([problem.rationale for problem in asked.problems])
    behind_every_row, _ = continuation_nll(replace(prompt, lm=_that_cannot_share(prompt.lm)), answers)
    monkeypatch.setattr(FrozenLM, "continuation_states", None)  # reads what all share with every row
    assert continuation_nll(prompt, answers)[0] == pytest.approx(behind_every_row, rel=1e-4)


def _that_cannot_share(lm: FrozenLM) -> FrozenLM:
    other = FrozenLM(lm.name, lm.model, lm.tokenizer)
    assert lm.shares_prompts
    assert not other.shares_prompts
    return other


def test_savings_are_of_the_question_alone(request_, models, weights):
    config = models.load(request_.setting.target).model.config
    a_token = kv_bytes(config, 1)
    arms = ("bridged", "bridged_int4", "zero", "target", "bridged_with_text", "no_context")
    of_arm = answered(request_, models, weights, arms)
    K = request_.setting.soft_tokens
    for arm in arms[:3]:
        assert [row["question_kv_bytes"] for row in of_arm[arm]] == [K * a_token] * 3
    for row in of_arm["target"]:
        assert row["question_kv_bytes"] == row["question_tokens"] * a_token
    for row in of_arm["bridged_with_text"]:
        assert row["question_kv_bytes"] == (row["question_tokens"] + K) * a_token
    for row in of_arm["no_context"]:
        assert row["question_kv_bytes"] == 0
    frames = {row["kv_bytes"] - row["question_kv_bytes"] for arm in ("bridged", "target", "no_context") for row in of_arm[arm]}
    assert len(frames) == 1  # the exemplars are no arm's saving


def test_what_is_added_onto_the_text_takes_no_place_of_its_own(request_, models, trial):
    source, target = models.load(trial.source), models.load(trial.target)
    residual = Residual(translator=evenly(trial.translator))
    weights = copy_of(residual.build(source.width, target.width, target_rms=target.embedding_rms))
    asked = with_arms(request_, "bridged_with_text", "target", translator=residual)
    added, plain = (answer(with_arms(asked, arm), models, weights) for arm in ("bridged_with_text", "target"))
    assert [row["question_kv_bytes"] for row in added] == [row["question_kv_bytes"] for row in plain]


def test_a_question_is_repeated_as_far_as_the_loss_asks_for_it(request_, models, weights):
    long = tuple(replace(one, question=one.question + " And so on." * 200) for one in request_.problems)
    for row in answer(with_arms(request_, "bridged", problems=long), models, weights):
        assert row["question_tokens"] > row["reconstruction_tokens"] == 256


def test_joint_scores_answers_behind_the_exemplars_that_they_were_given(request_, models, weights):
    rows = answer(with_arms(request_, "joint"), models, weights)
    by_hand = [0.0] * len(rows)
    for member in ("source", "target"):
        prompt = asked_of(request_, models, weights, member)
        assert prompt.shots == 2
        said = [prompt.around.answer(text) for text in request_.answers["target"]]
        nll, _ = continuation_nll(prompt, said)
        by_hand = [total - one / len(tokens) for total, one, tokens in zip(by_hand, nll, said, strict=True)]
    assert [row["joint_target"] for row in rows] == pytest.approx(by_hand)


def test_the_start_is_checked_on_the_prompts_that_are_answered(request_, models, weights, monkeypatch):
    seen = []
    monkeypatch.setattr(answerer, "check_alignment", lambda prompt: seen.append(prompt.shots))
    answerer.check(with_arms(request_, "bridged"), models, weights)
    assert seen == [2]
