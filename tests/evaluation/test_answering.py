import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from asking import requests_of, soft_of, with_arms

from raybridge.analysis.measures import summarised
from raybridge.arms.controls import partners
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.setting import frozen_arms, problems_of, setting_of, trial_arms
from raybridge.models.prompts import frame, prompt_hash


def test_shuffled_answers_with_another_problems_soft_tokens(trial, models, weights):
    (request,) = requests_of(trial, "dev", "bridged", "shuffled")
    rows = answer(request, models, weights)
    by_arm = {arm.name: [row for row in rows if row["arm"] == arm.name] for arm in request.arms}
    soft, others = soft_of(models, request, weights), partners(len(request.problems), trial.seed)
    assert not torch.allclose(soft, soft[others])
    for row, other in zip(by_arm["shuffled"], others, strict=True):
        neighbour = by_arm["bridged"][other]
        assert row["completion"] == neighbour["completion"]
        assert row["problem"] != neighbour["problem"]
    reseeded = answer(with_arms(request, "shuffled", seed=trial.seed + 1), models, weights)
    assert [row["nll"] for row in reseeded] != [row["nll"] for row in by_arm["shuffled"]]


def test_the_trap_gold_text_reaches_an_evaluation_input(trial, models, weights):
    """Another gold and rationale for the same questions: the same prompts and completions, only the grades differ."""
    (request,) = requests_of(trial, "dev", *(arm.name for arm in trial_arms(trial.translator, "test")))
    others = tuple(replace(p, gold="123456", rationale="nothing\n#### 123456") for p in request.problems)
    forged = replace(request, setting=replace(request.setting, problems=others))
    plain, other = answer(request, models, weights), answer(forged, models, weights)
    for column in ("prompt_hash", "completion", "prompt_tokens", "soft_tokens"):
        assert [row[column] for row in plain] == [row[column] for row in other]
    assert not any(row["score_strict"] for row in other)


def test_every_baseline_arm_answers(trial, models):
    wanted = {arm.name: requests_of(trial, "dev", arm.name) for arm in frozen_arms("dev")}
    assert set(wanted) == {"source", "target", "token_budget", "no_context", "zero"}
    rows = {arm: [row for request in requests for row in answer(request, models)] for arm, requests in wanted.items()}
    target, evaluator = models.load(trial.target), trial.evaluator
    around = frame(target, evaluator)
    for row, p in zip(rows["target"], wanted["target"][0].problems, strict=True):
        assert row["prompt_hash"] == prompt_hash(around.prompt(p.question))
    for row, p in zip(rows["token_budget"], wanted["token_budget"][0].problems, strict=True):
        kept = around.question(p.question)[: trial.translator.soft_tokens]
        assert row["prompt_hash"] == prompt_hash(around.prompt(target.text(kept)))
    assert {row["prompt_tokens"] for row in rows["no_context"]} == {len(around.before) + len(around.after)}
    assert {row["soft_tokens"] for row in rows["zero"]} == {trial.translator.soft_tokens}
    assert len({row["completion"] for row in rows["no_context"]}) == 1
    nll = {arm: sum(row["nll"] for row in part) / sum(row["nll_tokens"] for row in part) for arm, part in rows.items()}
    assert nll["target"] < nll["token_budget"] < nll["no_context"]
    accuracy = {arm: sum(row["score_strict"] for row in part) / len(part) for arm, part in rows.items()}
    assert accuracy["target"] > accuracy["no_context"]


def keys(setting) -> dict[str, str]:
    return {arm.name: setting.key(arm) for arm in frozen_arms("dev")}


def test_baselines_are_shared_by_trials_that_ask_the_same(trial):
    wider = replace(trial, translator=replace(trial.translator, soft_tokens=9), seed=5)
    one, other = (keys(setting_of(t, "dev")) for t in (trial, wider))
    assert {arm for arm in one if one[arm] == other[arm]} == {"source", "target", "no_context"}
    more = replace(trial, dev_problems=9)
    assert set(keys(setting_of(more, "dev")).values()).isdisjoint(one.values())


def test_a_summary_counts_what_the_samples_say(trial, models, weights):
    evaluations = Evaluations(trial, Local(models))
    evaluations.submit(step=4, split="dev", weights=weights)
    samples = evaluations.collect(step=4, split="dev")
    assert samples["problem"].tolist() == [p.id for p in problems_of(trial, "dev")] * 2
    rows = summarised(samples, step=4, split="dev", evaluator="pocket", readings=trial.evaluator.readings)
    assert [(row["arm"], row["reading"]) for row in rows] == [
        (arm, reading) for arm in ("bridged", "shuffled") for reading in trial.evaluator.readings
    ]
    part = samples[samples["arm"] == "bridged"]
    assert rows[0]["n"] == 8
    assert rows[0]["accuracy"] == part["score_strict"].mean()
    assert rows[0]["invalid"] == part["answer_strict"].isna().sum()
    assert rows[0]["low"] <= rows[0]["accuracy"] <= rows[0]["high"]


def test_a_missing_row_is_a_fault_and_never_a_zero(trial, models, weights):
    (request,) = requests_of(trial, "dev", "bridged")
    rows = answer(request, models, weights)
    with pytest.raises(AssertionError, match="did not answer every problem"):
        in_order(rows[1:], problems_of(trial, "dev"))
    with pytest.raises(AssertionError, match="answered twice"):
        in_order([*rows, rows[0]], problems_of(trial, "dev"))


def test_an_arm_that_is_none_is_named_with_its_nearest(trial):
    with pytest.raises(ValueError, match="did you mean 'bridged'"):
        requests_of(trial, "dev", "bridge")


def test_a_summary_by_hand_and_missing_is_not_zero():
    table = pd.DataFrame(
        {
            "problem": ["a", "b", "c", "d"],
            "arm": "bridged",
            "score_strict": [1.0, 0.0, 0.0, 1.0],
            "answer_strict": ["1", "1", None, "2"],
            "truncated": [False, True, False, False],
            "no_stop": [False, True, True, False],
            "first_token": [5, 5, 6, 6],
            "first_token_correct": [True, True, True, False],
            "nll": [1.0, 2.0, 3.0, 4.0],
            "nll_tokens": [1, 2, 3, 4],
            "generated_tokens": [1, 2, 3, 4],
            "soft_tokens": 8,
            "seconds": 0.5,
            "latency_1": [0.2, 0.4, None, None],
            "kv_bytes": [None] * 4,
        }
    )
    (row,) = summarised(table, step=1, split="test", evaluator="made")
    assert (row["n"], row["correct"], row["accuracy"], row["invalid"], row["truncated"]) == (4, 2, 0.5, 1, 1)
    assert row["unique_answers"] == 3 / 4  # none is one of them
    assert row["first_token_entropy"] == 1.0
    assert (row["no_stop_rate"], row["first_token_correct_rate"]) == (0.5, 0.75)
    assert row["nll"] == 1.0
    assert row["latency_1"] == pytest.approx(0.3)  # over the problems it was measured on
    assert "kv_bytes" not in row
    assert "wire_bytes" not in row
    blank = table.assign(nll=float("nan"), nll_tokens=float("nan"), truncated=float("nan"), first_token=float("nan"))
    (row,) = summarised(blank, step=1, split="test", evaluator="made")
    assert math.isnan(row["nll"])
    assert (row["nll_tokens"], row["truncated"]) == (None, None)
    assert "first_token_entropy" not in row
