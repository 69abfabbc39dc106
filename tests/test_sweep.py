"""The sweep command up to the cluster: scales, smoke runs, locks, Ctrl-C and what it says last. Nothing here starts Ray."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from launched import COMPRESSION, bare, launch, planned, run_without_ray, said
from opened import ENDED
from rich.console import Console

from raybridge import sweep
from raybridge.results import Results
from raybridge.results.command_log import logged


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    bare(monkeypatch)


def test_a_smoke_run_is_other_trials(tmp_path):
    for trial in planned(COMPRESSION):
        Results(tmp_path).open_trial(
            name=trial.name, fingerprint=trial.smoke().fingerprint, config=trial.smoke().resolved(), provenance={}
        ).finish(ENDED)
    _, output = launch(COMPRESSION, "--dry-run", "--smoke", root=tmp_path)
    assert "complete, reused" not in output  # of the real folder
    for trial in planned(COMPRESSION):
        smoke = trial.smoke()
        assert smoke.fingerprint[:8] in output
        assert trial.fingerprint[:8] not in output


def test_a_mistake_in_a_follow_up_leaves_the_summary_written(tmp_path, monkeypatch):
    text = COMPRESSION.read_text(encoding="utf8") + "\n\ndef follow_up(ended):\n    return [ended[0][1]['finl']]\n"
    code, output = run_without_ray(monkeypatch, text, tmp_path)
    assert code == 2
    assert "unknown key of a result 'finl'; valid: name, fingerprint, steps, stopped, reason, arm, peak" in said(output)
    assert not (tmp_path / "r").exists()  # it was seen before anything ran
    monkeypatch.setattr("raybridge.sweep_file.REHEARSED", ())
    code, output = run_without_ray(monkeypatch, text, tmp_path)
    assert code == 2
    assert "unknown key of a result 'finl'; valid: steps, headline" in said(output)
    assert "| 2_stable_s1234_4tok |" in (tmp_path / "r/sweeps/asks/EXPERIMENTS_SUMMARY.md").read_text()


def test_a_smoke_run_leaves_real_results_as_they_are(tmp_path, monkeypatch):
    text = COMPRESSION.read_text(encoding="utf8")
    assert run_without_ray(monkeypatch, text, tmp_path)[0] == 0
    real = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file() and path.name != "lock"}
    assert run_without_ray(monkeypatch, text, tmp_path, "--smoke")[0] == 0
    assert {path: path.read_bytes() for path in real} == real
    for root, smoke in ((tmp_path / "r", False), (tmp_path / "r/smoke", True)):
        assert len(Results(root).trials()) == 4
        assert (Results(root).sweep("asks").plan() or {})["smoke"] is smoke


def test_the_last_line_says_where_results_are_and_what_to_type_next(tmp_path, monkeypatch):
    code, output = run_without_ray(monkeypatch, COMPRESSION.read_text(encoding="utf8"), tmp_path, "--smoke")
    assert code == 0
    last = output.rstrip().splitlines()[-1]
    assert f"results: {tmp_path / 'r/smoke/sweeps/asks'}" in last
    assert last.endswith(f" -m raybridge.plots --results {tmp_path / 'r'} --smoke")


def test_the_help_needs_neither_torch_nor_ray():
    code = "import sys, raybridge.sweep; print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    for name in ("sweep", "evaluate", "plots"):
        done = subprocess.run([sys.executable, "-m", f"raybridge.{name}", "-h"], capture_output=True, text=True, check=True)
        assert "Usage" in done.stdout


def test_a_log_is_told_what_is_waited_for_and_for_how_long(tmp_path, trial, monkeypatch):
    heard = Console(file=io.StringIO(), width=140)
    monkeypatch.setattr(sweep, "console", heard)
    monkeypatch.setattr(sweep, "EVERY", 0.5)
    with sweep.watched([trial], Results(tmp_path)) as tell:
        tell("starting Ray")
        time.sleep(2.3)
    assert heard.file.getvalue().count("  starting Ray, ") >= 2


def test_a_second_launch_of_a_running_sweep_is_refused_and_says_who_runs_it(tmp_path):
    with Results(tmp_path).sweep("compression").locked():
        code, output = launch(COMPRESSION, root=tmp_path)
    assert code == 2
    assert f"sweep compression is running already (process {os.getpid()} on " in said(output)
    with Results(tmp_path).sweep("compression").locked():
        pass  # what ended let go


def test_a_lock_left_by_a_killed_process_holds_nothing(tmp_path):
    folder = Results(tmp_path).sweep("s")
    folder.path.mkdir(parents=True)
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "import fcntl, os, signal, sys; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); f.write('dead'); "
            "f.flush(); os.kill(os.getpid(), signal.SIGKILL)",
            str(folder.lock_path),
        ],
        check=False,
    )
    assert child.returncode < 0
    with folder.locked(), folder.lock_path.open() as held:
        assert f"process {os.getpid()}" in held.read()
        with pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_stopped_trials_have_their_checkpoints_only_where_that_is_so(trial, tmp_path, monkeypatch):
    results, began = Results(tmp_path), time.time() - 1

    def told(*, since: float = began, failed: dict[str, str] | None = None) -> str:
        return sweep.saved([trial], results, failed or {}, since=since)

    assert told() == "every trial has its checkpoint"
    assert told(failed={trial.fingerprint: "unknown model"}) == "not every trial could save a checkpoint (tiny: unknown model)"
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    run.launch.fail("the disk is full", traceback="")
    assert told() == "not every trial could save a checkpoint (tiny: the disk is full)"
    assert told(since=time.time() + 60) == "every trial has its checkpoint"  # it failed in a launch before
    monkeypatch.setattr(sweep.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))  # and takes no sentence
    assert "is full, and a trial may have its last checkpoint but one" in told(since=time.time() + 60)


def test_what_a_live_table_shows_is_in_the_log_as_lines(tmp_path, trial, monkeypatch):
    seen = Console(file=io.StringIO(), width=140, force_terminal=True)
    monkeypatch.setattr(sweep, "console", seen)
    with (
        logged(tmp_path, "sweep", seen, sweep.unseen) as log,
        sweep.watched([trial], Results(tmp_path)) as tell,
    ):
        tell("starting Ray")
        time.sleep(1.2)
    written = log.path.read_text(encoding="utf8")
    assert "tiny: waiting, step 0 of 12\n" in written
    assert "starting Ray, " in written
    assert "tiny: waiting, step" not in seen.file.getvalue()
