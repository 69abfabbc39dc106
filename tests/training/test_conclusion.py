"""A trial that is trained, and what is left of it: that needs no worker, and comes out the same whoever does it, and when."""

from __future__ import annotations

import shutil
from dataclasses import replace

import local_runs
import pandas as pd
import pytest

from raybridge.analysis.plan import plan_of, unfinished
from raybridge.analysis.progress import row_of
from raybridge.evaluation.answerer import Local
from raybridge.results import Results
from raybridge.results.schema.records import TRAINED
from raybridge.training import workload


@pytest.fixture(scope="module")
def short(trial):
    return replace(trial, steps=4, warmup=1, batch=4, eval_every=2, dev_problems=4, test_problems=4)


@pytest.fixture(scope="module")
def left(short, tmp_path_factory, models):
    """A folder in which its workers have ended and its test split is left."""
    root = tmp_path_factory.mktemp("left")
    run = Results(root).open_trial(name=short.name, fingerprint=short.fingerprint, config=short.resolved(), provenance={})
    worker = local_runs.worker_on(run, lambda: Local(models), states_budget=0)
    assert workload.run(short, worker) == "trained"
    return root


@pytest.fixture
def trained(left, tmp_path):
    """A copy to write into."""
    results = Results(shutil.copytree(left, tmp_path / "r"))
    (run,) = results.trials()
    return results, run


@pytest.fixture(scope="module")
def whole(short, tmp_path_factory, models):
    """What one process leaves of it, in which nobody writes."""
    _, run = local_runs.run_trial(short, Results(tmp_path_factory.mktemp("whole")), models)
    return run


def told(run) -> dict:
    return {key: value for key, value in run.result().items() if not key.endswith("seconds")}


def test_a_trained_trial_is_not_complete_and_says_what_its_training_came_to(short, trained):
    results, run = trained
    assert not run.complete
    assert unfinished(short, run)
    assert set(run.trained()) == {column.name for column in TRAINED}
    assert run.trained()["steps"] == 4
    assert run.sampled() == [("pocket", "dev", 2)]  # that of the last step is left as well
    assert not run.has_conditioning("pocket")
    assert plan_of(short, results, {}) == "trained; its test split is left"
    assert row_of(short, results).state == "testing"


def test_whoever_concludes_it_leaves_what_one_process_leaves(short, trained, whole, models):
    _, run = trained
    workload.conclude(short, run, Local(models))
    assert told(run) == told(whole)
    assert run.trained() is None
    assert sorted(path.name for path in run.path.iterdir()) == sorted(path.name for path in whole.path.iterdir())


@pytest.mark.parametrize("what", ["dev", "test", "evals"])
def test_what_a_kill_left_of_it_is_found_and_the_rest_is_computed(short, trained, whole, models, what):
    _, run = trained
    samples = whole.path / "samples" / "pocket" / what
    if what == "evals":
        (run.path / "evals.parquet").unlink()
    else:
        shutil.copytree(samples, run.path / "samples" / "pocket" / what, dirs_exist_ok=True)
    workload.conclude(short, run, Local(models))
    assert told(run) == told(whole)
    keys = ["step", "split", "arm", "reading"]
    now, then = (one.evals().drop(columns="seconds").sort_values(keys, ignore_index=True) for one in (run, whole))
    pd.testing.assert_frame_equal(now, then)


def test_a_trial_that_is_not_trained_is_not_concluded(short, tmp_path, models):
    run = Results(tmp_path).open_trial(name=short.name, fingerprint=short.fingerprint, config={}, provenance={})
    with pytest.raises(AssertionError, match="holds a trial that is not trained"):
        workload.conclude(short, run, Local(models))
