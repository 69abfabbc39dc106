"""Each figure: what its table holds."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import synthetic
from drawing import HOUSE, conditioned, table_of

from raybridge.plots import ATTENTION_BINS, Figure, Runs
from raybridge.plots.figures import load, make
from raybridge.plots.style import SEED
from raybridge.results import Results, TrialRun


def test_training_curves_hold_every_dev_evaluation_of_the_bridge_and_its_control(runs):
    curves = table_of("training_curves", runs)
    assert set(curves["arm"]) == {"bridged", "shuffled", "target"}
    assert (curves["arm"] == "bridged").sum() == (curves["arm"] == "shuffled").sum() == 3 * 8 + 3 * 10 + 10
    assert curves.loc[curves["arm"] == "target", "accuracy"].nunique() == 1
    assert (curves["low"] <= curves["accuracy"]).all()
    assert (curves["accuracy"] <= curves["high"]).all()
    bridged = curves[curves["arm"] == "bridged"]
    stopped = bridged[bridged["stopped"]]
    assert stopped["label"].tolist() == ["2_stable_8tok"] * 3
    assert stopped["step"].tolist() == [800] * 3
    assert bridged.groupby("label")["best"].sum().to_dict() == {"2_stable_8tok": 3, "2_stable_32tok": 3, "alone": 0}
    for _, one in bridged.groupby("fingerprint"):
        assert not one["best"].any() or one.loc[one["best"], "accuracy"].item() == one["accuracy"].max()


def test_training_curves_show_as_many_configurations_as_fit_and_say_so(tmp_path):
    for k in range(2, 10):
        synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, points=2, n=20)
    plot = load(HOUSE / "plots/training_curves.py")
    table = plot.table(Runs(Results(tmp_path)))
    assert table["label"].nunique() == 8
    assert "Shown: 6 of 8 configurations, best on dev; --trials NAME draws others" in plot.caption(table)


def test_arms_show_the_configuration_that_was_best_on_dev(runs):
    arms = table_of("arms", runs)
    assert set(arms.loc[arms["chosen"], "label"]) == {"2_stable_32tok"}
    row = arms.query("label == '2_stable_32tok' and arm == 'bridged' and reading == 'strict'").iloc[0]
    assert row["seeds"] == 3
    seeds = runs.test.query("label == '2_stable_32tok' and arm == 'bridged' and reading == 'strict'")
    assert row["accuracy"] == pytest.approx(seeds["accuracy"].mean())
    assert row["low"] < row["accuracy"] < row["high"]
    assert row["fingerprint"].split() == sorted(seeds["fingerprint"])


def test_one_checkpoint_is_ranked_and_tested_in_every_figure(tmp_path):
    """The peak of `lucky` is higher; what dev chose of `sound`, and what is tested of it, is."""
    told = {"lucky": {"best": 0.3, "peak": 0.9}, "sound": {"best": 0.6, "peak": 0.6}}
    for name, scores in told.items():
        run = synthetic.trial(tmp_path, name, points=2, n=20, steps=100 + ord(name[0]))
        run.finish(run.result() | scores)
        conditioned(run, 2)
    runs = Runs(Results(tmp_path))
    assert runs.trials.set_index("label")["dev"].to_dict() == {"lucky": 0.3, "sound": 0.6}
    arms = table_of("arms", runs)
    assert set(arms.loc[arms["chosen"], "label"]) == {"sound"}
    for name in ("main_results", "scaling", "inference_cost"):
        assert set(table_of(name, runs)["label"]) == {"sound"}
    conditioning = table_of("conditioning", runs)
    assert conditioning.groupby("label")["rank"].first().to_dict() == pytest.approx({"lucky": 2.3, "sound": 2.6})


def test_stability_says_whether_the_fall_is_more_than_noise(results):
    trials = load(HOUSE / "plots/stability_comparison.py").table(Runs(results, "compression"))
    assert len(trials) == 6
    stopped = trials[trials["stopped"] == "degradation"]
    assert set(stopped["label"]) == {"2_stable_8tok"}
    for row in trials.to_dict("records"):
        run = results.find(row["fingerprint"]).result()
        assert (row["peak"], row["final"], row["peak_step"]) == (run["peak"], run["final"], run["peak_step"])
        assert row["degradation"] == pytest.approx(row["peak"] - row["final"])
        assert row["degradation_low"] <= row["degradation"] <= row["degradation_high"]
        assert row["degraded"] == (row["p_holm"] <= 0.05 and row["degradation"] > 0)
        assert row["shuffled"] < row["peak"]


def test_the_loss_ablation_compares_with_the_first_trial_of_the_sweep(tmp_path):
    made = synthetic.loss_ablation(tmp_path, seeds=(1, 2, 3), n=120)
    rows = table_of("loss_ablation", Runs(Results(tmp_path))).set_index("label")
    assert rows.index.tolist() == ["3b_answer_reconstruction_16tok", "3c_answer_infonce_16tok", "3d_all_16tok"]
    assert set(rows["baseline"]) == {"3a_answer_16tok"}
    assert rows["verdict"].tolist() == ["better", "tie", "better"]
    assert (rows["aa_band"] > 0).all()
    for row in rows.to_dict("records"):
        assert row["difference"] == pytest.approx(row["accuracy"] - row["baseline_accuracy"])
        assert row["low"] <= row["difference"] <= row["high"]
        assert len(row["fingerprint"].split()) == 6
    by_hand = [run.result()["best_step"] for run in made[:3]]
    tests = [run.samples("pocket", "test", step).query("arm == 'bridged'") for run, step in zip(made, by_hand, strict=False)]
    assert rows["baseline_accuracy"].iloc[0] == pytest.approx(np.mean([part["score_strict"].mean() for part in tests]))


def test_without_a_band_no_configuration_is_better_than_another(tmp_path):
    """One seed each: seed noise would be told as better."""
    synthetic.loss_ablation(tmp_path, seeds=(1,), n=120)
    plot = load(HOUSE / "plots/loss_ablation.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert set(rows["verdict"]) == {"one seed each"}
    assert rows["p_holm"].min() < 0.001
    assert "without a band no ranking. No A/A band: no two trials differ in their seed alone." in plot.caption(rows)
    alike = [synthetic.trial(tmp_path, f"r_s{seed}", seed=seed, points=2, n=120) for seed in (1, 2, 3)]
    synthetic.sweep(tmp_path, "replicates", alike)  # of the same models: their band is that of the ablation
    rows = plot.table(Runs(Results(tmp_path))).set_index("label")
    assert rows["verdict"].to_dict() == {
        "3b_answer_reconstruction_16tok": "tie",
        "3c_answer_infonce_16tok": "tie",
        "3d_all_16tok": "better",
    }
    band = rows["aa_band"].iloc[0]
    assert rows["difference"].abs().gt(band).to_dict() == {label: told == "better" for label, told in rows["verdict"].items()}


def test_figures_show_every_seed(runs):
    for name, seeds in (("arms", 3), ("compression_tradeoff", 3), ("scaling", 3), ("inference_cost", 3)):
        rows = table_of(name, runs)
        mine = rows[(rows["arm"] == "bridged") & (rows["seeds"] == seeds)]
        assert len(mine)
        assert mine["by_seed"].str.split().map(len).eq(seeds).all()
    page = Figure()
    load(HOUSE / "plots/arms.py").draw(page, table_of("arms", runs))
    dots = [line for line in page.axes[0].lines if line.get_markersize() == SEED and len(line.get_xdata()) == 3]
    assert len(dots) >= 2  # bridged by both readings


def test_compression_is_counted_in_tokens_and_flagged_where_there_is_none(tmp_path):
    runs = [
        synthetic.trial(tmp_path, f"2_stable_s{seed}_{k}tok", soft_tokens=k, seed=seed, level=level, points=3, n=60)
        for k, level in ((8, -1.0), (64, 1.0))
        for seed in (1, 2)
    ]
    synthetic.sweep(tmp_path, "compression", runs)
    plot = load(HOUSE / "plots/compression_tradeoff.py")
    rows = plot.table(Runs(Results(tmp_path)))
    bridged = rows[rows["arm"] == "bridged"].set_index("K")
    assert bridged["compression"].to_dict() == {8: 45 / 8, 64: 45 / 64}
    assert bridged["flagged"].to_dict() == {8: False, 64: True}
    assert not rows.loc[rows["arm"] != "bridged", "flagged"].any()
    assert "No compression in tokens at K=64." in plot.caption(rows)
    assert set(rows["arm"]) == {"bridged", "shuffled", "token_budget", "target"}
    assert (rows["gap_low"] <= rows["gap"]).all()
    assert (rows["gap"] <= rows["gap_high"]).all()
    assert rows.loc[rows["arm"] == "target", "gap"].tolist() == pytest.approx([1, 1])
    assert rows["aa_band"].nunique() == 1
    assert bridged.loc[64, "gap"] > bridged.loc[8, "gap"]


def test_compression_in_bytes_counts_each_bit_width_through_the_wire(tmp_path):
    for k in (8, 32):
        synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, points=2, n=60, wire=True)
    synthetic.sweep(tmp_path, "compression", Results(tmp_path).trials())
    plot = load(HOUSE / "plots/compression_tradeoff.py")
    rows = plot.table(Runs(Results(tmp_path)))
    sent = rows.dropna(subset=["compression_bytes"]).set_index(["K", "arm"])
    assert sorted(set(sent.index.get_level_values("arm"))) == sorted(synthetic.BITS)
    for (k, arm), row in sent.iterrows():
        bits = synthetic.BITS[arm]
        assert row["compression_bytes"] == pytest.approx(180 / (20 + k * 96 * bits // 8 + 6 * k * (bits < 16)))
        assert row["flagged"] == (row["compression_bytes"] <= 1)
        assert row["gap_low"] < row["gap"] < row["gap_high"]
    assert "Left of the upright line nothing is compressed." in plot.caption(rows)
    assert make(plot, Runs(Results(tmp_path)), ["png"]) is not None


def test_arms_that_an_evaluation_asked_for_come_from_the_baselines_as_well(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=20)
    problems = list(dict.fromkeys(run.samples("pocket", "test", run.result()["best_step"])["problem"]))
    cascade = Results(tmp_path).baseline(synthetic.baseline_key("target", run.config, "test", problems)).assign(arm="joint")
    Results(tmp_path).write_baseline(synthetic.baseline_key("joint", run.config, "test", problems), cascade)
    test = Runs(Results(tmp_path)).test
    assert test.loc[test["arm"] == "joint", "accuracy"].tolist() == test.loc[test["arm"] == "target", "accuracy"].tolist()


def test_directions_are_a_pair_and_its_swap_at_the_same_k(tmp_path):
    for source, target, level in (("a/x", "b/y", 1.0), ("b/y", "a/x", -1.0)):
        for seed in (1, 2):
            name = f"{level:.0f}_s{seed}"
            synthetic.trial(tmp_path, name, source=source, target=target, level=level, seed=seed, points=3, n=60)
    synthetic.trial(tmp_path, "alone", source="a/x", target="c/z", points=2, n=60)
    synthetic.trial(tmp_path, "other_k", source="a/x", target="b/y", soft_tokens=8, points=2, n=60)
    synthetic.trial(tmp_path, "longer", source="a/x", target="b/y", level=2.0, steps=2000, points=3, n=60)  # one way only
    plot = load(HOUSE / "plots/directions.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert set(rows["models"]) == {"x and y"}
    assert set(rows["K"]) == {16}
    assert set(rows["label"]) == {"1_s1", "-1_s1"}
    assert rows.groupby("pair")["arm"].agg(set).to_dict() == {
        pair: {"bridged", "shuffled", "target"} for pair in ("x to y", "y to x")
    }
    assert set(rows["seeds"]) == {2}
    there, back = (rows[(rows["pair"] == pair) & (rows["arm"] == "bridged")].iloc[0] for pair in ("x to y", "y to x"))
    assert there["gap"] > back["gap"]
    assert make(plot, Runs(Results(tmp_path)), ["png"]) is not None


def test_a_model_to_itself_has_no_other_direction(tmp_path):
    synthetic.trial(tmp_path, "t", source="a/x", target="a/x", points=2, n=20)
    assert table_of("directions", Runs(Results(tmp_path))).empty


def test_conditioning_shows_what_evaluation_left_of_each_configuration(tmp_path):
    for seed in (1, 2):
        conditioned(synthetic.trial(tmp_path, f"t_s{seed}", soft_tokens=3, seed=seed, points=2, n=20), 3)
    synthetic.trial(tmp_path, "without", soft_tokens=4, points=2, n=20)
    plot = load(HOUSE / "plots/conditioning.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert set(rows["label"]) == {"t"}
    assert set(rows["seeds"]) == {2}
    attention = rows[rows["kind"] == "attention"].sort_values("index")["value"].to_numpy().reshape(3, ATTENTION_BINS)
    assert attention[0, 0] == 1
    assert attention[1:] == pytest.approx(1 / ATTENTION_BINS)
    assert "n = 12 questions of pocket, 2 seeds." in plot.caption(rows)
    assert "Directions in use (entropy of the squared values), in the legend's order: 2.0." in plot.caption(rows)
    assert make(plot, Runs(Results(tmp_path)), ["png"]) is not None


def test_without_replicates_there_is_no_band(tmp_path):
    synthetic.sweep(tmp_path, "compression", [synthetic.trial(tmp_path, "one_16tok", points=2, n=40)])
    plot = load(HOUSE / "plots/compression_tradeoff.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert rows["aa_band"].isna().all()
    assert "No A/A band: no two trials differ in their seed alone." in plot.caption(rows)


def test_scaling_takes_the_configuration_that_was_best_on_dev_at_each_k(tmp_path):
    for name, level in (("weak", -2.0), ("strong", 1.5)):
        synthetic.trial(tmp_path, name, soft_tokens=16, level=level, points=3, n=60, steps=1000 + len(name))
    rows = table_of("scaling", Runs(Results(tmp_path)))
    assert set(rows["label"]) == {"strong"}
    assert set(rows["arm"]) == {"bridged", "shuffled"}
    assert (rows["gap_low"] < rows["gap"]).all()


def test_inference_cost_counts_what_the_target_holds(runs):
    rows = table_of("inference_cost", runs).set_index(["K", "arm"])
    assert rows.loc[(32, "bridged"), "context_tokens"] == 12 + 32
    assert rows.loc[(32, "target"), "context_tokens"] == 12 + 45
    assert rows.loc[(32, "bridged"), "seconds_per_problem"] == pytest.approx(0.02 + 0.001 * 44)


def timed_on(run: TrialRun, count: int) -> None:
    """What an evaluation leaves that answered so many problems alone, by the bridge: 1 ms, 2 ms, ..."""
    step = run.result()["best_step"]
    samples = run.samples("pocket", "test", step)
    mine = samples["arm"] == "bridged"
    samples.loc[samples[mine].index[:count], "latency_1"] = [0.001 * (number + 1) for number in range(count)]
    run.write_samples("pocket", "test", step, samples)


@pytest.mark.parametrize(("count", "panels", "median"), [(0, 1, None), (19, 1, None), (21, 2, 0.011)])
def test_no_time_is_drawn_until_enough_problems_were_timed_apart(tmp_path, count, panels, median):
    for seed in (1, 2):  # the same problems: seeds make no more of them
        timed_on(synthetic.trial(tmp_path, f"t_s{seed}", seed=seed, points=2, n=40), count)
    plot = load(HOUSE / "plots/inference_cost.py")
    rows = plot.table(Runs(Results(tmp_path)))
    bridged = rows[rows["arm"] == "bridged"].iloc[0]
    assert bridged["timed"] == count
    assert bridged["latency_median"] == pytest.approx(median, nan_ok=True) if median else pd.isna(bridged["latency_median"])
    figure = Figure()
    plot.draw(figure, rows)
    assert len(figure.axes) == panels
    assert ("n = 21 timed" in plot.caption(rows)) == (panels == 2)
    assert ("fewer than 20 problems were timed apart" in plot.caption(rows)) == (panels == 1)
    inference = load(HOUSE / "plots/inference.py")
    table = inference.table(Runs(Results(tmp_path)))
    assert "seconds_per_problem" not in inference.columns(table)  # of a machine that did other things beside
    assert ("latency_median" in inference.columns(table)) == (panels == 2)
    assert ("n = 21 timed" in inference.caption(table)) == (panels == 2)
    if panels == 2:  # times are of each configuration alone: no line joins them
        assert all(
            line.get_linestyle() == "None"
            for line in figure.axes[0].lines
            if len(line.get_xdata()) and line.get_marker() != "_"
        )


def test_the_trap_a_line_of_compression_that_goes_up_and_down_between_trials_of_unlike_kind(tmp_path):
    for kind, level, steps in (("stable", 0.0, 900), ("longer", 1.0, 1900)):
        for k in (8, 32):
            name = f"2_{kind}_s1_{k}tok"
            synthetic.trial(tmp_path, name, soft_tokens=k, level=level, points=2, n=40, steps=steps + k)
    synthetic.sweep(tmp_path, "compression", Results(tmp_path).trials())
    plot, figure = load(HOUSE / "plots/compression_tradeoff.py"), Figure()
    rows = plot.table(Runs(Results(tmp_path)))
    plot.draw(figure, rows)
    own = [rows.loc[(rows["arm"] == "bridged") & rows["label"].str.contains(kind), "accuracy"] for kind in ("stable", "longer")]
    drawn = [sorted(line.get_ydata()) for line in figure.axes[0].lines if len(line.get_ydata()) == 2]
    assert all(sorted(of_kind) in drawn for of_kind in own)
    assert not any(len(line.get_ydata()) == 4 for line in figure.axes[0].lines)
    assert "Lines join trials of one kind." in plot.caption(rows)
    assert "Lines join" not in plot.caption(rows[rows["label"].str.contains("stable")])


OWN = """from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Row:
    n: int


NEEDS, columns, caption = "a sweep", None, str


def table(runs):
    return [Row(n=1)]
"""


def test_a_plot_file_may_have_a_dataclass_whose_annotations_are_texts_and_one_that_fails_leaves_nothing(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(OWN.replace("NEEDS", "NEED"), encoding="utf8")
    with pytest.raises(ValueError, match=r"own\.py lacks NEEDS"):
        load(own)
    assert "plots.own" not in sys.modules
    own.write_text(OWN, encoding="utf8")
    assert [row.n for row in load(own).table(None)] == [1]
