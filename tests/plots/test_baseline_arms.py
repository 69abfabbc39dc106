"""What a reviewer demands beside a bridge is drawn beside it: `arms`, `compression_tradeoff`, and a line in the README."""

from __future__ import annotations

import pytest
import synthetic
from drawing import HOUSE, table_of

from raybridge.analysis.asked import only
from raybridge.analysis.sweeps import outcomes
from raybridge.plots import Figure, Runs, words
from raybridge.plots.figures import load
from raybridge.results import Results

AT_K = ("crammed", "selective_text", "text_relay")
LENT = {
    "format_only": "raybridge.translators.format_only:FormatOnly",
    "receiver_lora": "raybridge.translators.receiver_lora:ReceiverLoRA",
}
ALL = (*AT_K, "self_repair", *LENT)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A compression sweep with every such arm, and the trials that lend two of them."""
    root = tmp_path_factory.mktemp("results")
    runs = [synthetic.trial(root, f"2_stable_s1_{k}tok", soft_tokens=k, seed=1, points=2, n=40) for k in (4, 16)]
    synthetic.sweep(root, "compression", runs)
    for run in runs:
        problems = run.samples("pocket", "test", run.result()["best_step"])["problem"].drop_duplicates().tolist()
        rows = Results(root).baseline(synthetic.baseline_key("token_budget", run.config, "test", problems))
        for arm in (*AT_K, "self_repair"):
            key = synthetic.baseline_key(arm, run.config, "test", problems)
            Results(root).write_baseline(key, rows.assign(arm=arm))
    for name, translator in LENT.items():
        lender = synthetic.trial(root, name, points=2, n=40, translator={"class": translator, "soft_tokens": 4})
        lender.finish(lender.result() | {"arm": "bridged_with_text"})
    return Results(root)


@pytest.mark.parametrize("name", ["arms", "compression_tradeoff"])
def test_the_figure_draws_every_one_of_them(results, name):
    plot, figure = load(HOUSE / f"plots/{name}.py"), Figure()
    rows = plot.table(Runs(results))
    assert set(ALL) <= set(rows["arm"])
    plot.draw(figure, rows)
    told = {text.get_text() for ax in figure.axes for text in ax.get_yticklabels()}
    told |= {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {words(arm) for arm in ALL} <= told


def test_the_legend_names_no_arm_that_is_not_drawn(tmp_path):
    run = synthetic.trial(tmp_path, "2_stable_s1_4tok", soft_tokens=4, seed=1, points=2, n=40)
    synthetic.sweep(tmp_path, "compression", [run])
    plot, figure = load(HOUSE / "plots/compression_tradeoff.py"), Figure()
    plot.draw(figure, plot.table(Runs(Results(tmp_path))))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["bridged", "shuffled", "token budget", "target reads the text"]


def test_the_tradeoff_says_in_its_caption_what_each_is(results):
    plot = load(HOUSE / "plots/compression_tradeoff.py")
    caption = plot.caption(plot.table(Runs(results)))
    assert all(words(arm).lower() in caption.lower() for arm in ALL)
    assert "a ceiling and no method" in caption
    assert "Across: self repair, the target checking its own answer; format only," in caption


def test_what_other_trials_lend_is_told_of_in_the_outcomes_of_a_sweep(results):
    runs = Runs(results)
    told = outcomes(runs, runs.of_sweep("compression"))
    assert {"test format_only", "test receiver_lora"} <= set(told)
    assert "judged by" not in told


def test_a_lender_that_reads_the_text_is_not_what_a_figure_of_soft_tokens_chooses(results):
    assert set(table_of("scaling", Runs(results))["label"]) == {"2_stable_4tok", "2_stable_16tok"}


def test_a_lender_that_a_sweep_asks_for_as_well_is_no_row_of_the_table_of_compression(results):
    root = results.root
    synthetic.sweep(root, "headline", list(results.trials(broken={})))
    assert set(table_of("compression", Runs(results, "headline"))["label"]) == {"2_stable_4tok", "2_stable_16tok"}


def test_trials_that_are_chosen_by_hand_are_drawn_though_no_sweep_asked_for_them(tmp_path):
    """As imported ones are."""
    for k in (4, 16):
        synthetic.trial(tmp_path, f"2_stable_s1_{k}tok", soft_tokens=k, seed=1, points=2, n=40)
    runs = Runs(Results(tmp_path))
    for name in ("compression", "compression_tradeoff"):
        assert table_of(name, runs).empty
        assert set(table_of(name, only(runs, ["2_*"]))["K"]) == {4, 16}


def test_the_readme_explains_each_in_a_line():
    lines = (HOUSE / "README.md").read_text(encoding="utf8").splitlines()
    for arm in ALL:
        assert sum(line.startswith(f"| `{arm}`") for line in lines) == 1
