from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from opened import ENDED

from raybridge import HOUSE
from raybridge.results import Results, TrialRun
from raybridge.results.launch import Begun, Timing


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
    run.finish(ENDED)
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


def test_a_timing_without_a_first_step_has_none(run):
    (run.path / "timing.json").write_text('{"started": 1.0, "ended": 2.0}', encoding="utf8")
    assert run.launch.timing() == Timing(started=1.0, first_step=None, ended=2.0)


def test_a_trial_that_is_trained_has_no_timing_until_it_ends(run):
    begun = Begun(started=1.5, first_step=2.5, trained=7.0)
    run.launch.write_timing(begun)
    assert run.launch.timing() is None
    assert run.launch.begun() == begun
    run.launch.end(9.0)
    assert run.launch.timing() == Timing(started=1.5, first_step=2.5, trained=7.0, ended=9.0)


@pytest.mark.parametrize(("name", "field"), [("failure.json", "sentence"), ("timing.json", "started")])
def test_a_file_without_its_fields_is_named(run, name, field):
    (run.path / name).write_text("{}", encoding="utf8")
    with pytest.raises(ValueError, match=f"{name}: {field} is missing; it is damaged"):
        run.launch.why() if name == "failure.json" else run.launch.timing()


def test_of_two_that_would_run_a_trial_one_waits_until_the_other_lets_go(run, monkeypatch):
    monkeypatch.setattr("raybridge.results.launch.WAIT", 0.01)
    assert not run.launch.busy()
    with run.launch.held(unless=lambda: False) as first:
        assert first
        assert run.launch.busy()
        with run.launch.held(unless=lambda: True) as second:
            assert not second
        asked, found = threading.Event(), []

        def wait() -> None:
            with run.launch.held(unless=lambda: asked.set() or False) as held:
                found.append((held, run.complete))

        third = threading.Thread(target=wait)
        third.start()
        assert asked.wait(timeout=10)
        assert found == []
        run.finish(ENDED)
    third.join(timeout=10)
    assert found == [(True, True)]


def test_death_lets_a_trial_go(run):
    code = (
        "import os, signal, sys; from pathlib import Path; from raybridge.results.launch import Launch\n"
        "with Launch(Path(sys.argv[1])).held(unless=lambda: False):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HOUSE) as other:
        assert other.stdout.readline() == "held\n"
        assert run.launch.busy()
        other.kill()
        other.wait()
    assert not run.launch.busy()
