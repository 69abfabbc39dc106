"""A trial is ranked and reported by the arm that its translator names, and beside the text never before others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import synthetic
from drawing import HOUSE, command, table_of

from raybridge.analysis.chosen import judged_by, rank_of
from raybridge.analysis.compare import default_arm
from raybridge.analysis.configurations import against_first, own_on_test
from raybridge.analysis.findings import band_over, dev_scores, find
from raybridge.analysis.replicates import replicates
from raybridge.analysis.runs import Runs
from raybridge.analysis.standings import standings
from raybridge.analysis.summary import accuracy_table, best_on_dev, nll_table, notes, plain
from raybridge.analysis.sweeps import outcomes
from raybridge.plots.figures import load
from raybridge.results import Results, TrialRun

OWN, CONTROL = "bridged_with_text", "shuffled_with_text"
N = 80


def hybrid(root, name: str, **changes) -> TrialRun:
    """A trial that was selected, stopped and ranked beside the text, better than any that was not."""
    run = synthetic.trial(root, name, points=2, n=N, test_problems=None, **changes)
    for point in (one for one in run.sampled() if one[1] == "dev"):
        samples = run.samples(*point)
        beside = samples.assign(arm=samples["arm"].map({"bridged": OWN, "shuffled": CONTROL}))
        beside["score_strict"] = np.where(beside["arm"] == OWN, 1.0, 0.0)
        run.write_samples(*point, pd.concat([samples, beside], ignore_index=True))
        run.add_evals(synthetic.rows_of(beside, step=point[2], split="dev"))
    run.finish(run.result() | {"arm": OWN, "best": 1.0, "peak": 1.0, "final": 1.0})
    return run


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A sweep of soft tokens alone and of a hybrid."""
    root = tmp_path_factory.mktemp("both")
    runs = [synthetic.trial(root, "a_soft_s1", points=2, n=N, test_problems=None, level=1.0, seed=1, clip=2.0)]
    runs.append(hybrid(root, "b_text_s1", seed=1, clip=3.0))
    synthetic.sweep(root, "hybrid", runs)
    return Results(root), runs


def asked(runs) -> dict[str, str]:
    return {run.fingerprint: run.name for run in runs}


def test_a_trial_is_judged_by_what_its_result_says_and_before_that_by_the_first_bridge():
    assert judged_by({"arm": OWN}, ["bridged", OWN]) == OWN
    assert judged_by({}, [OWN, "bridged", "target"]) == "bridged"
    assert judged_by({}, [OWN, "target"]) == OWN
    assert rank_of(float("nan"), "bridged") < rank_of(1.0, OWN) < rank_of(0.0, "bridged") < rank_of(0.1, "bridged")


def test_a_finding_is_of_its_own_arm_beside_its_control(both):
    results, runs = both
    soft, text = find(asked(runs), results)
    assert (soft.arm, soft.control, text.arm, text.control) == ("bridged", "shuffled", OWN, CONTROL)
    samples = text.run.samples("pocket", "test", text.result["best_step"]).groupby("arm")["score_strict"].mean()
    assert text.transfer.difference == pytest.approx(samples[OWN] - samples[CONTROL])
    assert dev_scores(text).mean() == 1.0
    assert soft.compresses
    assert not text.compresses  # whatever K is: the question stands there too
    told = plain(text)
    assert told["arm"] == OWN
    assert told["gap_recovered"] == text.gap_recovered(OWN) != text.gap_recovered("bridged")
    assert told["gap_recovered_shuffled"] == text.gap_recovered(CONTROL)


def test_the_summary_says_by_what_each_is_judged(both):
    results, runs = both
    findings = find(asked(runs), results)
    head, *rows = accuracy_table(findings)
    assert [dict(zip(head, row, strict=True))["judged by"] for row in rows] == ["bridged", "bridged with text"]
    assert head[6:] == [
        *("final", "test bridged", "test bridged with text", "shuffled", "shuffled with text", "text"),
        *("transfer", "ended"),
    ]
    assert dict(zip(head, rows[1], strict=True))["compression"].endswith("(!)")
    assert "judged by" not in accuracy_table(findings[:1])[0]
    head, *rows = nll_table(findings)
    own, control = (findings[1].arms[arm]["nll"] for arm in (OWN, CONTROL))
    assert f"({control - own:+.3f}" in dict(zip(head, rows[1], strict=True))["transfer"]
    said = " ".join(notes(findings, results))
    assert "bridged against shuffled, bridged with text against shuffled with text" in said
    assert "(!) nothing is compressed, for the question stands as text beside the soft tokens: b_text_s1." in said


def test_accuracy_beside_the_text_is_chosen_before_no_soft_tokens_alone(both):
    results, runs = both
    view = Runs(results)
    assert view.trials.set_index("trial")["dev"].to_dict()["b_text_s1"] == 1.0
    assert best_on_dev(find(asked(runs), results), results).startswith("best on dev: a_soft_s1 ")
    assert set(standings(view)["label"]) == {"a_soft"}
    arms = table_of("arms", view)
    assert set(arms.loc[arms["chosen"], "label"]) == {"a_soft"}
    for name in ("main_results", "scaling", "inference_cost", "inference"):
        assert set(table_of(name, view)["label"]) == {"a_soft"}
    alone = Runs(results, "hybrid")
    assert len(own_on_test(alone, {runs[1].fingerprint})) == 1  # where nothing else is, it is what there is
    assert default_arm(runs[0], "pocket", "test") == "bridged"
    assert default_arm(runs[1], "pocket", "test") == OWN


def test_the_report_tells_each_beside_its_control_and_ranks_no_two_arms(both):
    results, runs = both
    view = Runs(results)
    told = outcomes(view, view.of_sweep("hybrid")).set_index("configuration")
    assert told["judged by"].to_dict() == {"a_soft": "bridged", "b_text": "bridged with text"}
    assert [name for name in told if name.startswith("test ")] == [
        f"test {arm}" for arm in ("bridged", OWN, "shuffled", CONTROL, "target")
    ]
    text = find(asked(runs), results)[1]
    gaps = [text.gap_recovered(arm) for arm in (OWN, CONTROL)]
    assert told.loc["b_text", "gap recovered (shuffled)"] == "{:.2f} ({:.2f})".format(*gaps)
    (row,) = against_first(Runs(results, "hybrid"), "hybrid").to_dict("records")
    assert (row["arm"], row["verdict"]) == (OWN, "another arm")
    assert row["shuffled"] == pytest.approx(text.arms[CONTROL]["accuracy"])
    page = command("plots/loss_ablation.py", "--results", results.root, "--sweep", "hybrid", "--report", "--format", "png")
    assert page.exit_code == 0, page.output
    assert "judged by" in (results.root / "report.html").read_text()


def test_curves_and_falls_are_of_the_arm_that_ranks(both):
    results, _ = both
    curves = table_of("training_curves", Runs(results))
    assert set(curves.loc[curves["ranks"], ["label", "arm"]].itertuples(index=False, name=None)) == {
        ("a_soft", "bridged"),
        ("b_text", OWN),
    }
    falls = load(HOUSE / "plots/stability_comparison.py").table(Runs(results, "hybrid")).set_index("label")
    assert falls["arm"].to_dict() == {"a_soft": "bridged", "b_text": OWN}
    assert falls.loc["b_text", "peak"] == 1.0
    assert falls.loc["b_text", "shuffled"] == 0.0


def test_the_spread_of_one_arm_says_nothing_of_another(tmp_path):
    runs = [
        synthetic.trial(tmp_path, f"0_replicate_s{seed}", points=2, n=N, seed=seed, test_problems=None) for seed in (1, 2, 3)
    ]
    synthetic.sweep(tmp_path, "replicates", runs)
    results = Results(tmp_path)
    other = hybrid(tmp_path, "b_text_s1", seed=1, clip=3.0)
    asked_ = dict(on="pocket", split="test", reading="strict")
    assert len(replicates(results, arms={"bridged"}, **asked_)) == 3
    assert replicates(results, arms={"bridged", OWN}, **asked_).empty
    (finding,) = find(asked([other]), results)
    assert band_over([finding], results, split="dev") is None
