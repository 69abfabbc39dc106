"""What figures, tables and the report see of results: groups, sweeps, arms, baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import synthetic

from raybridge.analysis.measures import FROZEN_ARMS, OF_K, baseline_key, gaps_recovered, summarised
from raybridge.plots import Runs
from raybridge.results import Results


def test_trials_that_differ_in_their_seed_alone_are_one_group(runs):
    assert runs.trials.groupby("label")["seed"].nunique().to_dict() == {"2_stable_8tok": 3, "2_stable_32tok": 3, "alone": 1}
    assert runs.trials.set_index("trial")["complete"].to_dict()["alone"] == np.False_
    trial = runs.trials[runs.trials["label"] == "2_stable_32tok"].iloc[0]
    assert trial["K"] == 32
    assert trial["config.translator"] == "Bottlenecked"
    assert trial["config.losses"] == "AnswerNLL, Reconstruction"
    assert trial["config.losses.AnswerNLL.weight"] == 1.0
    assert trial["config.translator.layers"] == "0, 2, 4"
    assert trial["sweep"] == "compression"


def test_groups_that_share_a_name_are_told_apart(tmp_path):
    for steps in (100, 200):
        synthetic.trial(tmp_path, "same", steps=steps, points=2, n=10)
    for seed in (1, 2):
        synthetic.trial(tmp_path, f"named_seed{seed}", seed=seed, points=2, n=10)
    assert set(Runs(Results(tmp_path)).trials["label"]) == {"same", "same (2)", "named"}


def test_a_sweep_is_the_trials_that_it_asked_for(results):
    runs = Runs(results, "compression")
    assert len(runs.trials) == 6
    assert set(runs.evals["label"]) == {"2_stable_8tok", "2_stable_32tok"}
    with pytest.raises(ValueError, match="unknown sweep 'compresion'; valid: compression; did you mean 'compression'"):
        _ = Runs(results, "compresion").runs


def test_the_first_reading_is_the_one_that_decides(runs):
    assert set(runs.first_readings["reading"]) == {"strict"}


def test_on_test_every_arm_occurs_once_and_the_translator_at_its_best_step(runs):
    test = runs.test
    assert not test.duplicated(["fingerprint", "evaluator", "arm", "reading"]).any()
    bridged = test[test["arm"] == "bridged"]
    best = bridged["fingerprint"].map(runs.trials.set_index("fingerprint")["result.best_step"])
    assert (bridged["step"] == best).all()


def test_arms_that_need_no_translator_come_from_the_baselines(runs):
    test = runs.test.query("reading == 'strict'")
    assert set(test["arm"]) == {*FROZEN_ARMS, "bridged", "shuffled", "bridged_with_text", "cascade"}
    assert (test.groupby("arm")["fingerprint"].nunique() == 6).all()
    target = test[test["arm"] == "target"]
    assert target["accuracy"].nunique() == 1  # one model, one benchmark: one baseline
    assert test[test["arm"] == "token_budget"].groupby("K")["accuracy"].nunique().tolist() == [1, 1]
    answers = runs.answers(target["fingerprint"].iloc[0], "pocket")
    assert set(answers["arm"]) == set(test["arm"])
    assert not answers.duplicated(["problem", "arm"]).any()
    row = target.iloc[0]
    assert answers.query("arm == 'target'")["score_strict"].mean() == row["accuracy"]


def test_baselines_are_found_under_the_key_that_evaluation_gives_them(trial):
    from raybridge.evaluation.setting import K_ARMS, baseline_requests, problems_of

    problems = [problem.id for problem in problems_of(trial, "dev")]
    for arm, key, _ in baseline_requests(trial, "dev"):
        assert baseline_key(arm, trial.resolved(), trial.evaluator.name, "dev", problems) == key
    assert {arm for arm, _, _ in baseline_requests(trial, "dev")} == set(FROZEN_ARMS)
    assert set(OF_K) == K_ARMS


def test_summaries_are_those_that_evaluation_writes(results, trial):
    from raybridge.evaluation.answering import summarise

    run = next(run for run in results.trials() if run.complete)
    samples = run.samples("pocket", "test", run.result()["best_step"])
    samples = samples.assign(reconstruction_nll=1.0, reconstruction_tokens=1)
    theirs = pd.DataFrame(summarise(samples, trial.evaluator, step=7, split="test")).drop(columns="reconstruction_nll")
    mine = pd.DataFrame(summarised(samples, step=7, split="test", evaluator="pocket"))
    pd.testing.assert_frame_equal(mine[theirs.columns.tolist()], theirs, check_dtype=False)


def test_gap_recovered_is_one_at_the_text_and_zero_at_the_floor(results):
    runs = Runs(results, "compression")
    answers = runs.answers(runs.trials["fingerprint"].iloc[0], "pocket")
    gaps = gaps_recovered(answers)
    assert gaps["target"][0] == pytest.approx(1)
    assert gaps["no_context"][0] == pytest.approx(0)
    gap, low, high = gaps["bridged"]
    assert low < gap < high
    by_arm = answers.groupby("arm")["nll"].sum()
    assert gap == pytest.approx((by_arm["no_context"] - by_arm["bridged"]) / (by_arm["no_context"] - by_arm["target"]))
    assert gaps_recovered(answers[answers["arm"] != "no_context"]) == {}
    assert gaps_recovered(answers.assign(nll=float("nan"))) == {}


def test_no_results_give_empty_tables(tmp_path):
    runs = Runs(Results(tmp_path))
    assert runs.trials.empty
    assert runs.evals.empty
    assert runs.metrics.empty
    assert runs.test.empty
    assert runs.first_readings.empty
