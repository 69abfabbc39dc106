"""A new arm is one file: it appears in the table, the figure `arms`, the report and the printed JSON."""

from __future__ import annotations

import json

import example_arm
import pytest
import synthetic
from drawing import HOUSE, command, table_of
from typer.testing import CliRunner

from raybridge.evaluate import app
from raybridge.plots import Figure, Runs
from raybridge.plots.figures import load
from raybridge.results import Results


@pytest.fixture
def arm(tmp_path, monkeypatch):
    """The example as a file of raybridge/arms/."""
    yield from example_arm.found(tmp_path / "arms", monkeypatch)


@pytest.fixture
def results(tmp_path, arm):
    """A trial whose frozen arms are there, the new one among them."""
    run = synthetic.trial(tmp_path, "t", points=2, n=20)
    problems = run.samples("pocket", "test", run.result()["best_step"])["problem"].drop_duplicates().tolist()
    rows = Results(tmp_path).baseline(synthetic.baseline_key("token_budget", run.config, "test", problems))
    key = synthetic.baseline_key(arm.name, run.config, "test", problems)
    Results(tmp_path).write_baseline(key, rows.assign(arm=arm.name))
    return Results(tmp_path)


def test_it_is_a_row_of_the_table(results, arm):
    rows = table_of("main_results", Runs(results))["arm"].tolist()
    assert rows[rows.index(arm.name) - 1] == "token_budget"  # its order says where


def test_it_is_drawn_among_the_arms_in_its_own_look(results, arm):
    plot, figure = load(HOUSE / "plots/arms.py"), Figure()
    plot.draw(figure, plot.table(Runs(results)))
    (ax,) = figure.axes
    assert "last sentence" in [label.get_text() for label in ax.get_yticklabels()]
    assert arm.look["marker"] in {line.get_marker() for line in ax.lines}


def test_it_is_in_the_report(results, arm):
    done = command("plots/arms.py", "--results", results.root, "--report", "--format", "png")
    assert done.exit_code == 0, done.output
    assert f"<td>{arm.name}</td>" in (results.root / "report.html").read_text()


def test_it_is_in_the_printed_json(arm, tmp_path):
    asked = ["--source", "pocket:source", "--target", "pocket:target", "--on", "pocket", "--problems", "4", "--json"]
    done = CliRunner().invoke(
        app, [*asked, "--arms", "last_sentence,no_context", "--results", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.output.splitlines()[-1])
    assert {row["arm"] for row in told["rows"]} == {"last_sentence", "no_context"}
    assert told["against_control"]["last_sentence"]["n"] == 4
