"""Rows that trials share: hardened arms beside their plain ones, and arms that another trial's rows stand for."""

from __future__ import annotations

import pandas as pd
import pytest
import synthetic

from raybridge.analysis.cautions import cautions
from raybridge.analysis.runs import Runs
from raybridge.analysis.standings import standings
from raybridge.analysis.sweeps import outcomes
from raybridge.arms import find
from raybridge.results import Results
from raybridge.results.baselines import digest, identity_in

CONSTANT = {"class": "raybridge.translators.prompt_tuning:PromptTuning", "soft_tokens": 12}


@pytest.fixture
def one(tmp_path):
    """A complete trial; the target and its floor with hardened decoding, on half of the problems."""
    run = synthetic.trial(tmp_path, "t", points=2, n=60)
    synthetic.harden(run, "+ban4", {"ban_end": 4}, ("bridged", "shuffled"), ("target", "no_context"))
    return run


def labels(root) -> set[str]:
    return set(Runs(Results(root)).test["arm"])


def test_hardened_arms_stand_beside_their_plain_ones(tmp_path, one):
    hardened = {"bridged+ban4", "shuffled+ban4", "target+ban4", "no_context+ban4"}
    assert hardened <= labels(tmp_path)
    runs = Runs(Results(tmp_path))
    test = runs.test[runs.test["reading"] == "strict"].set_index("arm")
    assert test.loc[list(hardened), "n"].tolist() == [30] * 4
    assert set(test.loc[["target", "bridged"], "n"]) == {60}
    assert hardened <= set(runs.answers(one.fingerprint, "pocket")["arm"])
    assert {"bridged+ban4", "target+ban4"} <= set(standings(runs)["arm"])
    told = outcomes(runs, runs.trials)
    assert [name for name in told if name.startswith("test ")] == [
        *("test bridged", "test bridged+ban4", "test shuffled", "test shuffled+ban4", "test target", "test target+ban4")
    ]


def test_a_trial_that_was_never_hardened_has_no_hardened_arms(tmp_path, one):
    other = synthetic.trial(tmp_path, "other", points=2, n=60, seed=5)
    test = Runs(Results(tmp_path)).test
    assert not test.loc[test["fingerprint"] == other.fingerprint, "arm"].str.contains("+", regex=False).any()


def test_rows_of_another_identity_are_nobodys(tmp_path, one):
    results = Results(tmp_path)
    for key in results.baselines():
        rows = results.baseline(key)
        if "identity" in rows:
            identity = identity_in(find(rows["arm"].iloc[0].split("+")[0]), one.config, one.contents, "test", {"ban_end": 8})
            results.write_baseline(key, rows.assign(identity=digest(identity)))
    assert {"target+ban4", "no_context+ban4"}.isdisjoint(labels(tmp_path))


def test_a_hardened_bridge_is_cautioned_as_its_kind(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=500)
    synthetic.harden(run, "+ban4", {"ban_end": 4}, ("bridged",), (), completion="#### 5")
    said = cautions(Runs(Results(tmp_path))).groupby("kind")["sentence"].agg(list).to_dict()
    assert said["no control"] == ["no shuffled+ban4 control was run on pocket: what its soft tokens carry is not known"]
    (collapse,) = said["collapse"]
    assert collapse.startswith("bridged+ban4: 0% of its completions differ from one another")


def test_the_constant_prompt_is_the_bridge_of_a_trial_that_learned_one(tmp_path):
    borrower = synthetic.trial(tmp_path, "t", points=2, n=60)
    lender = synthetic.trial(tmp_path, "constant", points=2, n=60, level=-2.0, translator=CONSTANT)
    elsewhere = synthetic.trial(tmp_path, "elsewhere", points=2, n=60, target="another")
    runs = Runs(Results(tmp_path))
    test = runs.test[runs.test["reading"] == "strict"].set_index(["fingerprint", "arm"])
    theirs, ours = test.loc[(lender.fingerprint, "bridged")], test.loc[(borrower.fingerprint, "prompt_tuning")]
    measured = ["n", "accuracy", "nll", "soft_tokens", "step"]
    pd.testing.assert_series_equal(ours[measured], theirs[measured], check_names=False)
    assert ours["trial"] == "t"
    assert (lender.fingerprint, "prompt_tuning") not in test.index
    assert (elsewhere.fingerprint, "prompt_tuning") not in test.index
    answers = runs.answers(borrower.fingerprint, "pocket").set_index("arm")
    assert answers.loc["prompt_tuning", "score_strict"].mean() == theirs["accuracy"]
    assert "prompt_tuning" in runs.gaps(borrower.fingerprint, "pocket")
    assert "test prompt_tuning" in outcomes(runs, runs.trials)


def test_what_trains_no_translator_is_no_obstacle(tmp_path, one):
    config = {"class": "fit:Fit", "name": "line", "seed": 1, "steps": 60}
    run = Results(tmp_path).open_trial(name="line", fingerprint="f" * 64, config=config, provenance={})
    run.append_metrics({"step": 60, "loss": 0.5})
    run.finish({"name": "line", "fingerprint": "f" * 64, "steps": 60})
    runs = Runs(Results(tmp_path))
    assert set(runs.trials["trial"]) == {"t", "line"}
    assert set(runs.test["trial"]) == {"t"}
    assert "line" not in set(cautions(runs)["trial"])


def test_an_arm_before_another_target_stands_beside_its_own_and_closes_no_gap(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=60)
    synthetic.harden(run, "@other", {}, ("bridged", "shuffled"), ())
    runs = Runs(Results(tmp_path))
    rows = standings(runs).set_index("arm")
    assert rows.index[rows.index.get_loc("bridged") + 1] == "bridged@other"
    assert pd.isna(rows.loc["bridged@other", "gap"])
    assert pd.notna(rows.loc["bridged", "gap"])
    assert "test bridged@other" in outcomes(runs, runs.trials)
    assert "no control" not in set(cautions(runs)["kind"])
