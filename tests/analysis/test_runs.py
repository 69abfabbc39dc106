"""What figures, tables and the report see of results: groups, sweeps, arms, baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import synthetic

from raybridge.analysis.measures import gaps_recovered, summarised, with_question_kv
from raybridge.analysis.seeds import gaps_by_seed, mean_gap, over_seeds
from raybridge.analysis.standings import standings
from raybridge.plots import Runs
from raybridge.results import Results
from raybridge.results.baselines import identity_in, key_of
from raybridge.statistics import wilson


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
    assert set(test["arm"]) == {*synthetic.FROZEN, "bridged", "shuffled", *synthetic.BESIDE, "cascade"}
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
    from raybridge.evaluation.setting import frozen_arms, setting_of

    setting = setting_of(trial, "dev")
    for arm in frozen_arms("dev"):
        identity = identity_in(arm, trial.resolved(), None, "dev")
        assert key_of(identity, trial.evaluator.name, "dev", setting.ids) == setting.key(arm)


def test_what_was_not_recorded_stays_missing():
    plain = pd.DataFrame({"arm": ["bridged"] * 2, "answer_strict": ["1", None], "score_strict": [1.0, 0.0]})
    (row,) = summarised(plain, step=7, split="test", evaluator="gsm8k")
    assert (row["n"], row["correct"], row["invalid"], row["unique_answers"]) == (2, 1.0, 1, 1.0)
    assert row["truncated"] is row["nll_tokens"] is row["soft_tokens"] is None
    assert all(np.isnan(row[name]) for name in ("nll", "reconstruction_nll", "seconds"))
    assert not {"prompt_tokens", "wire_bytes", "no_stop_rate"} & row.keys()
    (row,) = summarised(plain.assign(prompt_tokens=None, soft_tokens=4), step=7, split="test", evaluator="gsm8k")
    assert np.isnan(row["prompt_tokens"])
    assert row["soft_tokens"] == 4


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
    assert gaps_recovered(answers, "reconstruction_nll") == {}
    assert gaps_recovered(answers.assign(reconstruction_nll=answers["nll"]), "reconstruction_nll") == gaps
    elsewhere = answers[answers["arm"] == "bridged"].assign(arm="bridged@other")
    assert gaps_recovered(pd.concat([answers, elsewhere])).keys() == gaps.keys()


def test_the_trap_a_source_that_closes_the_gap_of_another_model(runs):
    """Its NLL is of its own tokens: from the target's floor it recovered 1.00 and more."""
    fingerprint = runs.trials["fingerprint"].iloc[0]
    gaps = runs.gaps(fingerprint, "pocket")
    assert "source" not in gaps
    assert {"target", "bridged", "shuffled"} <= gaps.keys()
    rows = standings(runs).set_index("arm")
    assert rows.loc["source", ["nll", "gap"]].isna().all()
    assert rows.loc[["target", "bridged"], "nll"].notna().all()


def test_the_trap_wilson_intervals_of_f1():
    scores = np.random.default_rng(0).beta(20, 20, 300)
    samples = pd.DataFrame({"arm": "bridged", "answer_f1": "x", "score_f1": scores})
    (row,) = summarised(samples, step=0, split="test", evaluator="squad")
    error = scores.std() / np.sqrt(300)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)  # Wilson's would be six times as wide
    (row,) = summarised(samples.assign(score_f1=scores > 0.5), step=0, split="test", evaluator="squad")
    assert (row["low"], row["high"]) == wilson(int((scores > 0.5).sum()), 300)


def test_across_models_an_nll_is_in_bits_a_byte():
    samples = pd.DataFrame({"arm": "source", "answer_x": "1", "score_x": 1.0, "nll": [2.0, 4.0], "nll_tokens": [3, 3]})
    (row,) = summarised(samples, step=0, split="test", evaluator="pocket")
    assert "bits_per_byte" not in row  # missing of earlier rows, not 0
    (row,) = summarised(samples.assign(answer_bytes=[10, 20]), step=0, split="test", evaluator="pocket")
    assert row["bits_per_byte"] == pytest.approx(6 / 30 / np.log(2))


def test_savings_are_of_the_question_and_not_of_the_exemplars():
    arms = {"target": 193.0, "no_context": 178.0, "bridged": 179.0, "source": 90.0}
    rows = pd.DataFrame({"fingerprint": "f", "evaluator": "e", "reading": "r", "arm": arms.keys(), "kv_bytes": arms.values()})
    told = with_question_kv(rows).set_index("arm")["question_kv_bytes"]
    assert told.drop("source").to_dict() == {"target": 15.0, "no_context": 0.0, "bridged": 1.0}
    assert np.isnan(told["source"])  # of another model's prompt there is no floor here
    told = with_question_kv(rows.assign(question_kv_bytes=[14.0, 0.0, None, 7.0])).set_index("arm")["question_kv_bytes"]
    assert told.to_dict() == {"target": 14.0, "no_context": 0.0, "bridged": 1.0, "source": 7.0}
    assert "question_kv_bytes" not in with_question_kv(rows.drop(columns="kv_bytes"))


def test_three_seeds_have_an_interval_of_two_levels_and_fewer_have_not(tmp_path):
    for seed, level in ((1, -1.0), (2, 0.0), (3, 1.0)):
        synthetic.trial(tmp_path, f"t_s{seed}", seed=seed, level=level, points=2, n=100)
    runs = Runs(Results(tmp_path))
    rows = runs.test[(runs.test["reading"] == "strict") & runs.test["arm"].isin(["bridged", "target"])]
    three = over_seeds(runs, rows).set_index("arm")
    two = over_seeds(runs, rows[rows["seed"] < 3]).set_index("arm")
    widths = [table.loc["bridged", "high"] - table.loc["bridged", "low"] for table in (three, two)]
    assert widths[0] > 2 * widths[1]  # the seeds lie further apart than problems say
    by_seed = [float(one) for one in three.loc["bridged", "by_seed"].split()]
    assert sorted(by_seed) == sorted(rows.loc[rows["arm"] == "bridged", "accuracy"].round(6))
    target = rows[rows["arm"] == "target"].iloc[0]
    assert three.loc["target", ["low", "high", "by_seed"]].tolist() == [target["low"], target["high"], ""]  # the same in all
    row = {"fingerprint": three.loc["bridged", "fingerprint"], "evaluator": "pocket", "arm": "bridged"}
    gap, low, high = mean_gap(runs, row)
    each = [float(one) for one in gaps_by_seed(runs, row).split()]
    assert gap == pytest.approx(np.mean(each), abs=1e-5)
    assert low < min(each) < max(each) < high


def test_no_results_give_empty_tables(tmp_path):
    runs = Runs(Results(tmp_path))
    assert runs.trials.empty
    assert runs.evals.empty
    assert runs.metrics.empty
    assert runs.test.empty
    assert runs.first_readings.empty


def test_a_trial_has_one_row_whatever_it_was_read_by_and_tested_on(tmp_path):
    runs = [synthetic.trial(tmp_path, f"t_s{seed}", seed=seed, points=2, n=20) for seed in (1, 2)]
    step = runs[0].result()["best_step"]
    elsewhere = runs[0].samples("pocket", "test", step)
    runs[0].add_evals(synthetic.rows_of(elsewhere, step=step, split="test", evaluator="gsm8k"))
    view = Runs(Results(tmp_path))
    rows = view.by_trial("bridged")
    assert sorted(rows["fingerprint"]) == sorted(run.fingerprint for run in runs)
    assert set(rows["evaluator"]) == {"pocket"}
    assert set(rows["reading"]) == {"strict"}
    assert len(view.test[view.test["arm"] == "bridged"]) == 6  # what a figure would have counted
    assert view.by_trial("bridged", on="gsm8k")["fingerprint"].tolist() == [runs[0].fingerprint]
