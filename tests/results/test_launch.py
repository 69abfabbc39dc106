from __future__ import annotations

import os
import time

import pytest

from raybridge.results import Results, TrialRun
from raybridge.results.launch import Timing


@pytest.fixture
def run(tmp_path) -> TrialRun:
    return Results(tmp_path).open_trial(name="t", fingerprint="0123456789abcdef", config={}, provenance={})


def test_a_failure_is_told_until_the_next_launch_or_until_the_trial_is_complete(run):
    assert (run.launch.failed(), run.launch.why(), run.failure()) == (False, None, None)
    run.launch.fail("loss term 'answer' is nan at step 7", traceback="Traceback ...")
    assert run.launch.failed()
    assert run.failure() == "loss term 'answer' is nan at step 7"
    run.launch.begin()
    run.launch.begin()  # nothing to forget is no error
    assert (run.launch.failed(), run.failure()) == (False, None)
    run.launch.fail("killed", traceback="")
    run.finish({})
    assert run.failure() is None


def test_what_an_earlier_launch_left_is_told_apart_by_its_time(run):
    run.launch.fail("killed", traceback="")
    run.append_metrics({"step": 1})
    launched = time.time() + 5
    assert run.launch.failed(since=0)
    assert run.logged(since=0)
    assert not run.launch.failed(since=launched)
    assert not run.logged(since=launched)
    for name in ("failure.json", "metrics.jsonl"):
        os.utime(run.path / name, (launched + 1, launched + 1))
    assert run.launch.failed(since=launched)
    assert run.logged(since=launched)


def test_timing_comes_back_and_none_is_none(run):
    assert run.launch.timing() is None
    for timing in (Timing(started=1.5, first_step=2.5, ended=9.0), Timing(started=1.5, first_step=None, ended=9.0)):
        run.launch.write_timing(timing)
        assert run.launch.timing() == timing


@pytest.mark.parametrize(("name", "field"), [("failure.json", "sentence"), ("timing.json", "started")])
def test_a_file_without_its_fields_is_named(run, name, field):
    (run.path / name).write_text("{}", encoding="utf8")
    with pytest.raises(ValueError, match=f"{name} has no field '{field}'"):
        run.launch.why() if name == "failure.json" else run.launch.timing()
