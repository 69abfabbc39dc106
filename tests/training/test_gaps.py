"""What is deleted of a trial's results comes back when it is run again, and nothing else changes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd
import pytest
from local_runs import run_trial

from raybridge import sweep
from raybridge.analysis.plan import plan_of, unfinished
from raybridge.evaluation.answerer import Local
from raybridge.results import Results, TrialRun
from raybridge.scales import POCKET
from raybridge.training import workload

MADE = ["seconds"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, models):
    """A folder of results with one complete trial, and the trial."""
    translator = replace(POCKET.trial.translator, soft_tokens=4, width=32, depth=1, heads=2)
    cut = dict(steps=6, warmup=1, batch=4, eval_every=2, dev_problems=4, test_problems=4)
    trial = replace(POCKET.trial, name="tiny", translator=translator, **cut)
    root = tmp_path_factory.mktemp("whole")
    outcome, _ = run_trial(trial, Results(root), models)
    assert outcome == "complete"
    return trial, root


@pytest.fixture
def copied(whole, tmp_path):
    trial, root = whole
    shutil.copytree(root, tmp_path / "results")
    run = Results(tmp_path / "results").find(trial.fingerprint)
    assert run is not None
    return trial, run


def tables(run: TrialRun) -> dict[str, pd.DataFrame]:
    """Every table of a trial, without what the clock said."""
    return {
        str(path.relative_to(run.path)): pd.read_parquet(path).drop(columns=MADE, errors="ignore")
        for path in run.path.rglob("*.parquet")
    }


def same(run: TrialRun, root) -> None:
    (before,) = Results(root).trials()
    now, then = tables(run), tables(before)
    assert now.keys() == then.keys()
    for name, table in then.items():
        pd.testing.assert_frame_equal(now[name], table)
    assert run.result() == before.result()


def step_of_best(run: TrialRun) -> int:
    return run.result()["best_step"]


def test_a_whole_trial_has_no_gaps(copied):
    trial, run = copied
    gaps = trial.gaps(run)
    assert not gaps.mendable
    assert not gaps.planned


@pytest.mark.parametrize("what", ["evals", "test samples", "dev samples of the last", "conditioning", "all of it"])
def test_what_is_deleted_of_a_complete_trial_comes_back(copied, whole, models, what):
    trial, run = copied
    best = step_of_best(run)
    samples = run.path / "samples" / "pocket"
    paths = {
        "evals": [run.path / "evals.parquet"],
        "test samples": [samples / "test"],
        "dev samples of the last": [samples / "dev" / "step_000006.parquet"],
        "conditioning": [samples / "conditioning.parquet"],
    }
    paths["all of it"] = [path for some in paths.values() for path in some]
    for path in paths[what]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    told = trial.gaps(run)
    assert told.mendable
    if what == "test samples":
        assert told.planned == f"complete, but without its test samples of step {best}: computed again"
    workload.conclude(trial, run, Local(models))
    same(run, whole[1])
    assert not trial.gaps(run).mendable


def test_a_launch_runs_what_has_lost_something_and_says_what_did_not_come_back(copied):
    trial, run = copied
    results = Results(run.root)
    assert plan_of(trial, results, {}) == "complete, reused"
    assert not unfinished(trial, run)
    shutil.rmtree(run.path / "samples" / "pocket" / "test")
    assert plan_of(trial, results, {}) == trial.gaps(run).planned
    assert unfinished(trial, run)
    run.launch.fail("checkpoint of step 6 is damaged", traceback="")
    assert sweep.why_without([trial], results, {}) == {"tiny": "checkpoint of step 6 is damaged"}


def test_samples_that_are_gone_with_their_checkpoint_are_said(copied):
    trial, run = copied
    gone = next(step for step in trial.points if step not in run.checkpoints())
    (run.path / "samples" / "pocket" / "dev" / f"step_{gone:06d}.parquet").unlink()
    gaps = trial.gaps(run)
    assert not gaps.mendable
    assert gaps.planned == f"complete, reused without its dev samples of step {gone} (the checkpoint is gone as well)"


def interrupted_at(step: int, trial, root, models) -> TrialRun:
    calls = iter(range(1, 100))
    outcome, run = run_trial(trial, Results(root), models, interrupted=lambda: next(calls) >= step)
    assert outcome == "interrupted"
    return run


def test_an_interrupted_trial_gets_its_missing_evaluations(whole, tmp_path, models):
    trial, root = whole
    run = interrupted_at(5, trial, tmp_path, models)
    (run.path / "evals.parquet").unlink()
    at = run.checkpoints()[0]  # the best so far, whose checkpoint is kept
    path = run.path / "samples" / "pocket" / "dev" / f"step_{at:06d}.parquet"
    path.unlink(missing_ok=True)
    outcome, run = run_trial(trial, Results(tmp_path), models)
    assert outcome == "complete"
    now, then = tables(run), tables(Results(root).trials()[0])
    assert now.keys() == then.keys()
    pd.testing.assert_frame_equal(now["evals.parquet"], then["evals.parquet"])


def test_an_interrupted_trial_says_which_evaluation_cannot_come_back(whole, tmp_path, models):
    trial, _ = whole
    run = interrupted_at(5, trial, tmp_path, models)
    at = 2
    (run.path / "samples" / "pocket" / "dev" / f"step_{at:06d}.parquet").unlink()
    shutil.rmtree(run.checkpoint_path(at), ignore_errors=True)
    with pytest.raises(
        ValueError, match=rf"the dev samples of step {at} are gone, and so is the checkpoint .* delete {run.path}"
    ):
        run_trial(trial, Results(tmp_path), models)
