"""An experiment that is no translator goes the way of a trial; nothing in the cluster or the sweep knows of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import fit
import pandas as pd
import psutil
import pytest
from desk import WITHOUT_RUNS, Desk
from fit import Fit
from local_runs import worker_on
from rich.console import Console

from raybridge import HOUSE, sweep
from raybridge.analysis.progress import row_of, table
from raybridge.config import packages_of, rebuild
from raybridge.results import Results, TrialRun
from raybridge.training.worker import Ended, engine_of

LINE = '''"""Which slope has the line?"""

from local_runs import worker_on
from fit import Fit

axes = {"pocket": dict(rate=[0.5])}


def trial(base, *, rate: float) -> Fit:
    return Fit(name="line", seed=7, steps=60, rate=rate)
'''
SHORT = Fit(name="short", seed=7, steps=8, rate=0.5)


@pytest.fixture
def desk(tmp_path):
    file = tmp_path / "line.py"
    file.write_text(LINE, encoding="utf8")
    return Desk(tmp_path, file, WITHOUT_RUNS | {"PYTHONPATH": str(HOUSE / "tests" / "helpers")})


def nobody():
    raise AssertionError("a workload without settings looked for somebody who evaluates")


def alone(experiment: Fit, results: Results, monkeypatch, *, until: int | None = None) -> tuple[Ended, TrialRun]:
    """The experiment run in this process without pauses; interrupted after so many steps."""
    monkeypatch.setattr(fit, "PAUSE", 0.0)
    run = results.open_trial(
        name=experiment.name, fingerprint=experiment.fingerprint, config=experiment.resolved(), provenance={}
    )
    steps = itertools.count(1)
    worker = worker_on(run, nobody, interrupted=lambda: next(steps) == until)
    return engine_of(experiment).run(experiment, worker), run


def numbers(run: TrialRun) -> tuple[pd.DataFrame, dict]:
    return run.metrics().drop(columns="seconds"), run.result()


def test_its_plan_is_in_words_of_its_own(trial, tmp_path):
    console = Console(width=140)
    with console.capture() as said:
        console.print(sweep.plan_table([SHORT], Results(tmp_path)))
    heading, row = (line.split() for line in said.get().splitlines() if line.split()[:1] in (["trial"], ["short"]))
    assert heading == ["trial", "fingerprint", "steps", "rate", "plan"]
    assert row == ["short", SHORT.fingerprint[:8], "8", "0.5", "runs"]
    with console.capture() as said:
        console.print(sweep.plan_table([trial, SHORT], Results(tmp_path)))
    row = next(line.split() for line in said.get().splitlines() if "short" in line)
    assert row == ["short", SHORT.fingerprint[:8], "-", "8", "-", "-", "-", "0.5", "runs"]


def test_its_row_in_the_live_table_shows_its_headline(tmp_path, monkeypatch):
    results = Results(tmp_path)
    assert row_of(SHORT, results).state == "waiting"
    ended, run = alone(SHORT, results, monkeypatch, until=6)
    assert (ended, run.checkpoints()) == ("interrupted", [6])
    row = row_of(SHORT, results)
    assert (row.step, row.steps, row.state) == (6, 8, "training")
    ended, run = alone(SHORT, results, monkeypatch)
    assert ended == "complete"
    row = row_of(SHORT, results)
    assert (row.step, row.state) == (8, "complete")
    console = Console(width=140)
    with console.capture() as said:
        console.print(table([row], width=140))
    assert f"{run.result()['slope']:.3f}" in said.get()
    assert "slope" in said.get()


def test_its_classes_come_from_where_the_launcher_says_and_from_nowhere_else():
    with pytest.raises(ValueError, match="'fit:Fit' is not from raybridge or evaluators"):
        rebuild(SHORT.resolved())
    assert packages_of(SHORT) == ("raybridge", "evaluators", "fit")
    assert rebuild(SHORT.resolved(), packages_of(SHORT)) == SHORT
    assert "ENGINE" not in SHORT.resolved()


def test_an_engine_that_is_not_there_or_not_whole_is_said():
    class Nowhere(Fit):
        ENGINE = "fitt"

    class Half(Fit):
        ENGINE = "json"

    with pytest.raises(ValueError, match="the engine of Nowhere cannot be imported: No module named 'fitt'"):
        engine_of(Nowhere(name="a", seed=1, steps=1, rate=1.0))
    missing = "sealed, check, needs, prepare, replica_share, settings, provenance, run, conclude"
    with pytest.raises(ValueError, match=f"the engine of Half, json, does not define {missing}"):
        engine_of(Half(name="a", seed=1, steps=1, rate=1.0))


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_killed_and_resumed_by_one_of_two_sweeps_it_ends_with_the_numbers_of_an_undisturbed_run(desk, tmp_path, monkeypatch):
    first = desk.launch()
    first.until(lambda: desk.run is not None and bool(desk.run.checkpoints()))
    at_work = [process.name() for process in psutil.Process(first.process.pid).children(recursive=True)]
    first.killed(grace=0)
    assert any(name.startswith("ray::") for name in at_work)
    assert not any(name.startswith("ray::Replica") for name in at_work), "nothing is evaluated"
    killed_at = desk.run.checkpoints()[-1]
    assert killed_at < 60
    assert not desk.run.complete

    # Another sweep asks for it at the same time: one of them runs it, the other waits and reuses it.
    also = tmp_path / "also.py"
    also.write_text(LINE, encoding="utf8")
    launches = [each.launch() for each in (desk, replace(desk, file=also))]
    for launch in launches:
        assert launch.process.wait(timeout=300) == 0, launch.said
        assert f"resumes at step {killed_at}" in launch.said
        assert "line: complete, step 60 of 60" in launch.said
    assert {run.path for run in desk.results.trials()} == {desk.run.path}
    assert (desk.run.path / "train.log").read_text(encoding="utf8").count("its workers are together") == 2
    lines = (desk.run.path / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    assert len(lines) == desk.run.metrics()["step"].nunique() == 60
    assert not list(desk.run.path.glob("failure.json"))
    _, straight = alone(desk.trial, Results(tmp_path / "straight"), monkeypatch)
    pd.testing.assert_frame_equal(numbers(straight)[0], numbers(desk.run)[0], check_exact=True)
    assert numbers(straight)[1] == numbers(desk.run)[1]
    assert desk.run.launch.timing() is not None
    assert desk.results.baselines() == []
    assert desk.results.sweep("line").question() == "Which slope has the line?"
