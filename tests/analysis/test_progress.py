"""Rows of the live table, read from results that were written by hand."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from opened import ENDED, eval_row
from rich.console import Console

from raybridge.analysis.progress import HEADINGS, NARROW, Phase, Row, changes, line, phase_of, row_of, table
from raybridge.results import Results
from raybridge.results.headline import Headline, Measured

DEV = Headline(name="dev accuracy", column="accuracy", arm="bridged", control="shuffled", reading="strict")
HALF = Measured(value=0.5, low=0.25, high=0.75, control=0.01)


@pytest.fixture
def run(trial, tmp_path):
    return Results(tmp_path).open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})


def logged(run, step: int) -> None:
    run.append_metrics({"step": step, "loss": 2.0 / step, "tokens_per_second": 1234.5, "seconds": 0.5 * step})


def evaluated(run, step: int, accuracy: float) -> None:
    common = {"step": step, "evaluator": "pocket", "low": accuracy / 2, "high": 1.0}
    run.add_evals(
        [
            eval_row(**common, accuracy=accuracy),
            eval_row(**common, reading="flexible", accuracy=0.99),
            eval_row(**common, arm="shuffled", accuracy=0.01),
        ]
    )


def row(trial, run, **since) -> Row:
    return row_of(trial, Results(run.path.parents[1]), **since)


def test_a_trial_that_never_started_waits(trial, tmp_path):
    assert row_of(trial, Results(tmp_path)) == Row(name="tiny", step=0, steps=12, state="waiting", headline=DEV)


def test_a_row_follows_its_trial_from_start_to_end(trial, run):
    assert row(trial, run).state == "waiting"
    logged(run, 4)
    assert row(trial, run) == Row(
        name="tiny", step=4, steps=12, state="training", headline=DEV, loss=0.5, tokens_per_second=1234.5, seconds_left=4.0
    )
    evaluated(run, 4, 0.25)
    evaluated(run, 8, 0.5)
    assert row(trial, run).measured == Measured(value=0.5, low=0.25, high=1.0, control=0.01)  # the last, by the first reading
    logged(run, 12)
    assert row(trial, run).state == "testing"
    assert row(trial, run).seconds_left is None
    run.finish(ENDED)
    assert row(trial, run).state == "complete"


def test_a_trial_that_stopped_early_is_complete_at_its_last_step(trial, run):
    logged(run, 10)
    run.finish(ENDED | {"steps": 8})
    assert (row(trial, run).step, row(trial, run).state) == (8, "complete")


def test_a_failure_is_shown_and_one_of_an_earlier_launch_is_not(trial, run):
    logged(run, 4)
    (run.path / "failure.json").write_text("{}", encoding="utf8")
    assert row(trial, run).state == "failed"
    launched = time.time() + 5
    assert row(trial, run, since=launched).state == "waiting"
    assert row(trial, run, since=launched).step == 4
    os.utime(run.path / "metrics.jsonl", (launched + 1, launched + 1))
    assert row(trial, run, since=launched).state == "training"


def test_unknown_is_a_dash_and_never_a_zero():
    cells = Row(name="t", step=0, steps=12, state="waiting", headline=DEV).cells()
    assert tuple(cells) == HEADINGS
    assert list(cells.values()) == ["t", "0/12", "-", "-", "-", "-", "waiting", "-"]


def test_a_log_line_says_what_is_known():
    assert line(Row(name="t", step=0, steps=12, state="waiting", headline=DEV)) == "t: waiting, step 0 of 12"
    full = Row(
        name="t",
        step=4,
        steps=12,
        state="training",
        loss=0.5,
        tokens_per_second=1234.5,
        headline=DEV,
        measured=HALF,
        seconds_left=4.0,
    )
    assert line(full) == (
        "t: training, step 4 of 12, loss 0.500, 1,234 tokens/s, dev accuracy 0.500 [0.25, 0.75] (shuffled 0.010), 4 s left"
    )


def test_a_log_has_a_line_for_a_change_and_none_for_a_step():
    before = [
        Row(name="a", step=1, steps=9, state="training", headline=DEV),
        Row(name="b", step=1, steps=9, state="waiting", headline=DEV),
    ]
    after = [
        Row(name="a", step=2, steps=9, state="training", headline=DEV),
        Row(name="b", step=1, steps=9, state="training", headline=DEV),
    ]
    assert len(changes([], before)) == 2
    assert changes(before, after) == ["b: training, step 1 of 9"]
    assert changes(after, [Row(name="a", step=2, steps=9, state="training", headline=DEV, measured=HALF)])


def drawn(rows: list[Row], width: int) -> str:
    console = Console(width=width)
    with console.capture() as said:
        console.print(table(rows, width=width))
    return said.get()


def test_a_column_has_the_name_of_the_headline_where_all_rows_share_it():
    own = Row(name="a", step=0, steps=9, state="waiting", headline=DEV, measured=HALF)
    slope = Row(name="b", step=0, steps=9, state="training", headline=Headline(name="slope", column="slope"))
    assert "dev accuracy" in drawn([own, own], 160)
    assert "shuffled" in drawn([own], 160)
    assert "slope" in drawn([slope], 160)
    both = drawn([own, slope], 160)
    assert "headline" in both
    assert "control" in both
    assert "dev accuracy" not in both


def test_a_headline_without_a_control_is_told_without_one(run, trial):
    class Fit:
        name, fingerprint, steps, headline = "fit", trial.fingerprint, 12, Headline(name="slope", column="slope")

    run.append_metrics({"step": 3, "slope": 0.25, "seconds": 3.0})
    told = row_of(Fit(), Results(run.root))
    assert told == Row(
        name="fit", step=3, steps=12, state="training", headline=Fit.headline, measured=Measured(value=0.25), seconds_left=9.0
    )
    assert line(told) == "fit: training, step 3 of 12, slope 0.250, 9 s left"


def test_what_is_waited_for_has_a_clock_until_a_trial_trains(run, trial):
    waiting, launched = [row(trial, run)], time.time() - 60
    assert phase_of(waiting, [run], [], launched=launched) is None
    phases = [Phase(doing="starting Ray", since=time.time() - 42)]
    phase = phase_of(waiting, [None], phases, launched=launched)
    assert str(phase) == "starting Ray, 42 s"
    assert phase.due(every=15) == "starting Ray, 42 s"
    assert phase.due(every=15) is None
    run.launch.log.write_text("began", encoding="utf8")
    assert phase_of(waiting, [run], phases, launched=launched).doing == "training workers load their models"
    assert phase_of(waiting, [run], phases, launched=time.time() + 9).doing == "training workers load their models"
    logged(run, 4)
    assert phase_of([row(trial, run)], [run], phases, launched=launched) is None
    run.finish(ENDED | {"steps": 4})
    assert phase_of([row(trial, run)], [run], phases, launched=launched).doing.startswith("computing the arms")
    console = Console(width=80)
    with console.capture() as said:
        console.print(table(waiting, width=80, phase=Phase(doing="starting Ray", since=time.time() - 3)))
    assert "starting Ray, 3 s" in said.get()


def test_the_clock_of_what_is_waited_for_starts_again_after_each_trial(run, trial):
    waiting, launched, phases = [row(trial, run)], time.time() - 60, [Phase(doing="starting Ray", since=time.time() - 90)]
    run.launch.log.write_text("began", encoding="utf8")
    phase_of(waiting, [run], phases, launched=launched)
    phases[-1].since = time.time() - 42
    assert str(phase_of(waiting, [run], phases, launched=launched)) == "training workers load their models, 42 s"
    trains = replace(waiting[0], state="training")
    assert phase_of([trains], [run], phases, launched=launched) is None
    ended = replace(waiting[0], state="complete")
    run.finish({"steps": 4})
    assert str(phase_of([ended, *waiting], [run, None], phases, launched=launched)) == "starting training workers, 0 s"
    run_of_next = Results(run.root).open_trial(name="next", fingerprint="e" * 64, config={}, provenance={})
    run_of_next.launch.log.write_text("began", encoding="utf8")
    told = phase_of([ended, *waiting], [run, run_of_next], phases, launched=launched)
    assert str(told) == "training workers load their models, 0 s"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_cell_of_the_table_can_be_read_at_any_width(width):
    long = Row(
        name="3b_answer_reconstruction_s1234_16tok",
        step=1000,
        steps=3000,
        state="complete",
        loss=0.5,
        tokens_per_second=123_456.0,
        headline=DEV,
        measured=HALF,
        seconds_left=3600.0,
    )
    text = drawn([long], width)
    assert "…" not in text
    left_out = {"loss", "tokens/s"} if width < NARROW else set()
    named = {"headline": "dev accuracy", "control": "shuffled"}
    for heading, word in long.cells().items():
        assert (named.get(heading, heading) in text) == (heading not in left_out)
        if heading not in {"trial", *left_out}:
            assert word in text
