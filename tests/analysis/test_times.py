"""Times of answers: medians over problems, whose intervals are those of order statistics."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
import synthetic
from drawing import HOUSE
from rich.console import Console

from raybridge.analysis.measures import summarised
from raybridge.analysis.scorecard import scorecard, tables
from raybridge.analysis.times import median_interval
from raybridge.evaluation.bundle.tables import tables_of
from raybridge.plots import Runs
from raybridge.plots.figures import load
from raybridge.results import Results
from raybridge.results.bundle import TABLE, Place
from raybridge.results.schema import TIMES


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (20, 6, 15), (25, 8, 18)])
def test_the_interval_is_that_of_the_tables_of_order_statistics(n, low, high):
    values = np.random.default_rng(0).permutation(n) + 1.0
    assert median_interval(values) == (np.median(values), low, high)


def test_below_six_there_is_none_and_what_was_not_measured_is_left_out():
    assert median_interval([3.0, math.nan, 1.0, 2.0])[0] == 2.0
    assert all(map(math.isnan, median_interval([1.0] * 5)[1:]))
    assert all(map(math.isnan, median_interval([])))


def test_it_holds_the_true_median_as_often_as_it_says():
    draws = np.random.default_rng(1).lognormal(size=(2000, 20))
    held = [low <= 1.0 <= high for _, low, high in map(median_interval, draws)]
    assert 0.95 <= np.mean(held) <= 0.97  # 0.9586 by the binomial


def samples(n: int) -> pd.DataFrame:
    rows = synthetic.evaluation(1, 1, "test", {"bridged": (1.0, 0.5), "shuffled": (-4.0, 1.4)}, 8, n)
    rows["answer_bytes"] = 100
    for number, name in enumerate(TIMES):
        rows[name] = [0.001 * (number + 1) * (one % n + 1) for one in range(2 * n)]
    rows.loc[rows["problem"].eq(f"pocket/test/{n - 1}"), "latency_1"] = 9.0  # one that hung
    return rows


def test_evaluations_hold_medians_with_their_intervals():
    row, *_ = summarised(samples(20), step=1, split="test", evaluator="pocket")
    assert row["latency_1"] == pytest.approx(0.0105)  # a mean would be 0.46
    assert (row["latency_1_low"], row["latency_1_high"]) == pytest.approx((0.006, 0.015))
    few, *_ = summarised(samples(5), step=1, split="test", evaluator="pocket")
    assert few["latency_1"] == pytest.approx(0.003)
    assert "latency_1_low" not in few


def test_a_card_has_a_table_of_times_with_prefill_and_a_token_apart():
    told = dict(golds=5, evaluator="pocket", readings=["strict", "flexible"], split="test", step=1, title="t")
    *_, time = tables(scorecard(samples(20), **told))
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(time)
    text = console.export_text()
    assert "10.5 [6.0, 15.0]" in text
    for heading in ("alone", "source", "translator", "target", "a token"):
        assert heading in text
    untimed = samples(20).drop(columns=list(TIMES))
    assert len(tables(scorecard(untimed, **told))) == 3


def test_a_bundle_has_the_table_of_times_where_there_is_one():
    """An evaluation with times, as `evaluate` makes it, ended `export` with a message about zip."""
    place = Place(evaluator="pocket", split="test", step=1)
    for rows, there in ((samples(20), True), (samples(20).drop(columns=list(TIMES)), False)):
        files = tables_of({place: rows}, best=1, title="t", golds={"pocket/test": 5})
        assert {"tables/pocket/test/answers.csv", "tables/pocket/test/cost.csv"} <= files.keys()
        assert ("tables/pocket/test/times.csv" in files) == there
        assert all(TABLE.fullmatch(name) for name in files)
    assert (
        b"10.5 [6.0, 15.0]"
        in tables_of({place: samples(20)}, best=1, title="t", golds={"pocket/test": 5})["tables/pocket/test/times.csv"]
    )


def test_the_table_of_costs_has_them_too(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=40)
    step = run.result()["best_step"]
    rows = run.samples("pocket", "test", step)
    mine = rows["arm"] == "bridged"
    for number, name in enumerate(TIMES):
        rows.loc[rows[mine].index[:21], name] = [0.001 * (number + 1) * (one + 1) for one in range(21)]
    run.write_samples("pocket", "test", step, rows)
    plot = load(HOUSE / "plots/inference.py")
    table = plot.table(Runs(Results(tmp_path)))
    bridged = table[table["arm"] == "bridged"].iloc[0]
    for number, name in enumerate(("latency", *TIMES[1:])):
        told = bridged[[f"{name}_{end}" for end in ("median", "low", "high")]]
        assert told.astype(float).tolist() == pytest.approx([0.001 * (number + 1) * one for one in (11, 6, 16)])
        assert f"{name}_median" in plot.columns(table)
    assert "medians with 95% intervals over the problems" in plot.caption(table)
