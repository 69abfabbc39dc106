from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from typer.testing import CliRunner

from raybridge import plots
from raybridge.answers import FROZEN_ARMS, OF_K, baseline_key, gaps_recovered, summarised
from raybridge.files import write_frame
from raybridge.plots import ATTENTION_BINS, Figure, Plot, Runs, app, load, make, n_by_arm
from raybridge.results import Results, TrialRun

HOUSE = Path(__file__).parents[1]


def table_of(name: str, runs: Runs) -> pd.DataFrame:
    return load(HOUSE / "plots" / f"{name}.py").table(runs)


def made(plot: Plot, results: Results) -> dict[str, bytes]:
    done = make(plot, Runs(results), ["pdf"])
    assert done is not None
    return done.files


def command(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """A compression sweep of two sizes with three seeds, the smaller of which is stopped; and a trial still running."""
    root = tmp_path_factory.mktemp("results")
    runs = [
        synthetic.trial(root, f"2_stable_s{seed}_{k}tok", soft_tokens=k, seed=seed, level=level, stopped=k == 8, n=80)
        for k, level in ((8, -1.0), (32, 1.0))
        for seed in (1234, 1235, 1236)
    ]
    synthetic.sweep(root, "compression", runs)
    synthetic.trial(root, "alone", soft_tokens=4, complete=False, n=80, steps=500)
    return Results(root)


@pytest.fixture
def runs(results) -> Runs:
    return Runs(results)


# --- the view


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
    from raybridge.requests import K_ARMS, baseline_requests, problems_of

    problems = [problem.id for problem in problems_of(trial, "dev")]
    for arm, key, _ in baseline_requests(trial, "dev"):
        assert baseline_key(arm, trial.resolved(), trial.evaluator.name, "dev", problems) == key
    assert {arm for arm, _, _ in baseline_requests(trial, "dev")} == set(FROZEN_ARMS)
    assert set(OF_K) == K_ARMS


def test_summaries_are_those_that_evaluation_writes(results, trial):
    from raybridge.evaluation import summarise

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


# --- plots


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
    assert "The 6 of 8 configurations with the highest peaks." in plot.caption(table)


def test_arms_show_the_configuration_that_was_best_on_dev(runs):
    arms = table_of("arms", runs)
    assert set(arms.loc[arms["chosen"], "label"]) == {"2_stable_32tok"}
    row = arms.query("label == '2_stable_32tok' and arm == 'bridged' and reading == 'strict'").iloc[0]
    assert row["seeds"] == 3
    seeds = runs.test.query("label == '2_stable_32tok' and arm == 'bridged' and reading == 'strict'")
    assert row["accuracy"] == pytest.approx(seeds["accuracy"].mean())
    assert row["low"] < row["accuracy"] < row["high"]
    assert row["fingerprint"].split() == sorted(seeds["fingerprint"])


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
    cascade = Results(tmp_path).baseline(baseline_key("target", run.config, "pocket", "test", problems)).assign(arm="joint")
    Results(tmp_path).write_baseline(baseline_key("joint", run.config, "pocket", "test", problems), cascade)
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


def conditioned(run: TrialRun, queries: int) -> None:
    """Attention that is even but for the first query, which looks at the first part alone; two directions; cosines."""
    even = np.full((queries, ATTENTION_BINS), 1 / ATTENTION_BINS)
    even[0] = np.eye(ATTENTION_BINS)[0]
    values = {"attention": even.ravel(), "singular_value": [2.0, 2.0], "nearest": [0.5] * queries}
    values |= {"nearest_random": [0.1] * queries}
    rows = [
        {"kind": kind, "index": index, "value": float(value), "n": 12}
        for kind, found in values.items()
        for index, value in enumerate(found)
    ]
    write_frame(run.path / "samples/pocket/conditioning.parquet", pd.DataFrame(rows))


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
    assert "Directions in use (entropy of the squared values): t 2.0." in plot.caption(rows)
    assert make(plot, Runs(Results(tmp_path)), ["png"]) is not None


def test_without_replicates_there_is_no_band(tmp_path):
    synthetic.sweep(tmp_path, "compression", [synthetic.trial(tmp_path, "one_16tok", points=2, n=40)])
    plot = load(HOUSE / "plots/compression_tradeoff.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert rows["aa_band"].isna().all()
    assert "no A/A band" in plot.caption(rows)


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


def test_loss_terms_mark_a_term_that_is_on_and_moves_nothing(tmp_path):
    run = synthetic.trial(tmp_path, "alone", points=2, n=20)
    run.append_metrics({"step": 2000, "loss/idle": 1.0, "weight/idle": 0.5, "gradient/idle": 0.0})
    run.append_metrics({"step": 2010, "loss/off": 1.0, "weight/off": 0.0, "gradient/off": 0.0})
    plot = load(HOUSE / "plots/loss_terms.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert set(rows["term"]) == {"answer", "reconstruction", "idle", "off"}
    assert set(rows.loc[rows["dead"], "term"]) == {"idle"}
    assert "No gradient although on: idle." in plot.caption(rows)
    answer = rows[rows["term"] == "answer"]
    assert answer["step"].max() == 1000
    assert answer["gradient"].gt(0).all()


def test_no_two_loss_terms_look_alike(tmp_path):
    run = synthetic.trial(tmp_path, "alone", points=2, n=20)
    names = [f"{what}/term_{number}" for number in range(8) for what in ("loss", "weight", "gradient")]
    for step in (2000, 2010):
        run.append_metrics({"step": step, **dict.fromkeys(names, 1.0)})
    plot = load(HOUSE / "plots/loss_terms.py")
    figure = Figure()
    plot.draw(figure, plot.table(Runs(Results(tmp_path))))
    handles = figure.legends[0].get_lines()
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in handles}
    assert len(looks) == len(handles) == 10


def test_losses_have_their_written_names_in_legend_and_caption(tmp_path):
    from raybridge.losses.contrastive import InfoNCE
    from raybridge.losses.distillation import TextKL

    run = synthetic.trial(tmp_path, "alone", points=2, n=20)
    for step in (2000, 2010):
        terms = {InfoNCE.name: 0.0, TextKL.name: 0.5}
        values = {f"{what}/{term}": 1.0 for what in ("loss", "weight") for term in terms}
        run.append_metrics({"step": step, **values, **{f"gradient/{term}": at for term, at in terms.items()}})
    plot = load(HOUSE / "plots/loss_terms.py")
    figure, rows = Figure(), plot.table(Runs(Results(tmp_path)))
    plot.draw(figure, rows)
    legends = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"InfoNCE", "text KL", "answer", "reconstruction"} <= legends
    assert "No gradient although on: InfoNCE." in plot.caption(rows)


def test_every_plot_file_says_what_it_needs_and_draws_from_these_results(runs):
    for path in plots.plot_files():
        plot = load(path)
        assert plot.title
        assert plot.needs.startswith("python -m raybridge.sweep ")
        assert (HOUSE / plot.needs.split()[-1]).exists()
        assert plot.table(Runs(Results("/nowhere"))).empty


def test_drawing_twice_gives_the_same_bytes(results):
    for path in plots.plot_files():
        first, second = (make(load(path), Runs(results), ["pdf"]) for _ in range(2))
        assert (first and first.files) == (second and second.files)


def test_the_csv_beside_a_figure_is_its_table(results):
    plot = load(HOUSE / "plots/training_curves.py")
    table = plot.table(Runs(results))
    pd.testing.assert_frame_equal(pd.read_csv(BytesIO(made(plot, results)["csv"])), table, check_dtype=False, check_exact=True)


def test_a_pdf_carries_its_origin_and_embeds_its_fonts(results):
    plot = load(HOUSE / "plots/training_curves.py")
    pdf = made(plot, results)["pdf"]
    for run in results.trials():
        assert run.fingerprint.encode() in pdf
    assert b"commit abc1234" in pdf
    assert b"CreationDate" not in pdf
    assert b"/Type3" not in pdf
    assert re.search(rb"/FontFile2", pdf)


# --- the command


def test_the_command_draws_what_it_can_and_names_the_sweep_for_what_it_cannot(results, tmp_path):
    done = command("--results", results.root)
    assert done.exit_code == 0, done.output
    for kind in ("pdf", "png", "csv"):
        assert (results.root / f"figures/training_curves.{kind}").stat().st_size > 0
    (tmp_path / "empty").mkdir()
    done = command("--results", tmp_path / "empty", HOUSE / "plots/training_curves.py")
    assert done.exit_code == 0
    assert "training_curves: no data; made by: python -m raybridge.sweep sweeps/compression.py" in done.output


def test_formats_and_sweep_are_chosen(results):
    for file in (results.root / "figures").glob("*"):
        file.unlink()
    done = command("plots/training_curves.py", "--results", results.root, "--format", "png", "--sweep", "compression")
    assert done.exit_code == 0, done.output
    assert {path.suffix for path in (results.root / "figures").iterdir()} == {".png", ".csv"}
    assert "alone" not in (results.root / "figures/training_curves.csv").read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--sweep", "compresion"], "did you mean 'compression'"),
        (["--format", "pfd"], "unknown format 'pfd'; valid: pdf, png; did you mean 'pdf'"),
        (
            ["plots/training_curve.py"],
            r"plots/training_curve\.py: unknown plot 'training_curve'; valid: ablations, .*did you mean 'training_curves'",
        ),
        (["--results", "/nowhere"], "there is no folder /nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(results, args, says):
    done = command(*([] if "--results" in args else ["--results", results.root]), *args)
    assert done.exit_code == 2
    assert re.search(says, done.output), done.output
    assert "Traceback" not in done.output


def test_a_plot_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [load(Path(named)).name for named in ("arms", "arms.py", "plots/arms.py")] == ["arms"] * 3


def test_a_caption_names_the_arms_that_answered_fewer_problems():
    rows = pd.DataFrame({"evaluator": "pocket", "arm": ["target", "bridged", "mean", "bridged_int8"], "n": [200, 200, 32, 32]})
    assert n_by_arm(rows) == "n = 200 (mean, bridged int8: 32)"
    assert n_by_arm(rows.head(2)) == "n = 200"
    assert n_by_arm(pd.concat([rows.head(2), rows.head(2).assign(evaluator="gsm8k")])) == "n = 200"
    other = rows.head(2).assign(evaluator="gsm8k", n=1319)
    assert n_by_arm(pd.concat([rows, other])) == "n = 1319 (gsm8k), n = 200 (pocket; mean, bridged int8: 32)"


def test_no_point_of_a_cost_figure_lies_on_its_edge(results):
    plot = load(HOUSE / "plots/inference_cost.py")
    figure = Figure()
    rows = plot.table(Runs(results))
    measured = (rows["arm"] == "bridged").map({True: 0.05, False: np.nan})  # only what `evaluate` has timed alone
    plot.draw(figure, rows.assign(latency_1=measured))
    for ax in figure.axes:
        ends = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in ax.lines])
        assert ax.get_xlim()[1] > 1.05 * np.nanmax(ends)


def plot_file(folder: Path, name: str, body: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text('"""Title."""\nimport pandas as pd\nNEEDS = "python -m raybridge.sweep x"\n' + textwrap.dedent(body))
    return path


def test_one_plot_that_fails_does_not_keep_the_others_from_being_drawn(results, tmp_path):
    broken = plot_file(
        tmp_path,
        "broken",
        """
        def table(runs):
            return pd.DataFrame({"a": [1]})["b"]
        def caption(table): return ""
        def draw(figure, table): pass
        """,
    )
    (results.root / "figures/training_curves.png").unlink(missing_ok=True)
    done = command(broken, "plots/training_curves.py", "--results", results.root, "--format", "png")
    assert done.exit_code == 1
    assert "broken: failed: KeyError: 'b'" in done.output
    assert (results.root / "figures/training_curves.png").exists()


def one_broken(tmp_path: Path, *names: str) -> list[Path]:
    """A sweep of two trials; the files of the first that are named are cut short."""
    runs = [synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, points=2, n=20) for k in (4, 8)]
    synthetic.sweep(tmp_path, "compression", runs)
    paths = [path for name in names for path in sorted(runs[0].path.glob(name))[:1]]
    for path in paths:
        path.write_bytes(path.read_bytes()[:50])
    return paths


@pytest.mark.parametrize("name", ["evals.parquet", "result.json", "provenance.json", "trial.json"])
def test_a_trial_that_cannot_be_read_is_left_out_and_said_so(tmp_path, name):
    (path,) = one_broken(tmp_path, name)
    done = command("--results", tmp_path, "--format", "png", "--report")
    assert done.exit_code == 1
    assert re.search(f"left out: {re.escape(str(path))} is not", done.output), done.output
    assert "1 trials in" in done.output
    assert "failed" not in done.output
    (arms,) = (line for line in done.output.splitlines() if line.startswith("arms: "))
    assert "arms.png" in arms
    rows = pd.read_csv(tmp_path / "figures/arms.csv")
    assert set(rows["label"]) == {"t_8tok"}
    plot = load(HOUSE / "plots/arms.py")
    assert make(plot, Runs(Results(tmp_path)), []).caption.endswith("Left out: 1 result on disk that cannot be read.")
    assert str(path) in (tmp_path / "report.html").read_text()


def test_a_baseline_that_cannot_be_read_is_missing_not_zero(tmp_path):
    one_broken(tmp_path)
    path = next(tmp_path.glob("baselines/source-pocket-test-*"))
    path.write_bytes(b"PAR1")
    done = command("--results", tmp_path, "--format", "png")
    assert done.exit_code == 1
    assert f"left out: {path} is not a parquet table" in done.output
    assert "failed" not in done.output
    assert "source" not in set(pd.read_csv(tmp_path / "figures/arms.csv")["arm"])


def test_samples_that_cannot_be_read_fail_what_needs_them_and_nothing_else(tmp_path):
    (path,) = one_broken(tmp_path, "samples/pocket/test/*.parquet")
    done = command("--results", tmp_path, "--format", "png", "--report")
    assert done.exit_code == 1
    assert f"scaling: failed: {path} is not a parquet table" in done.output
    assert (tmp_path / "figures/arms.png").exists()
    assert (tmp_path / "figures/training_curves.png").exists()
    assert "scaling: failed:" in (tmp_path / "report.html").read_text()


def test_of_equal_configurations_one_is_the_best(tmp_path):
    for name in ("a", "b"):
        run = synthetic.trial(tmp_path, name, points=2, n=20, steps=100 + ord(name))
        run.finish(run.result() | {"peak": 0.5})
    runs = Runs(Results(tmp_path))
    assert set(runs.best_on_dev(runs.test)["label"]) == {"a"}


def test_a_plot_file_that_lacks_something_is_refused(results, tmp_path):
    path = plot_file(tmp_path, "half", "def table(runs): return None\ndef caption(table): return ''\n")
    done = command(path, "--results", results.root)
    assert done.exit_code == 2
    assert "lacks exactly one of draw and columns" in done.output
    path.write_text('"""Title."""\n')
    assert "lacks table, caption, NEEDS" in command(path, "--results", results.root).output


def test_the_command_as_a_module(results):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "raybridge.plots",
            "plots/training_curves.py",
            "--results",
            str(results.root),
            "--format",
            "png",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=HOUSE,
    )
    assert done.stdout.splitlines()[0] == f"7 trials in {results.root}"
