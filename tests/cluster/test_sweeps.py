"""The sweep command on a local cluster: killed, interrupted, resumed, and nothing run twice."""

from __future__ import annotations

import json
import os
import shlex
import signal
from shutil import copytree

import pandas as pd
import pytest
from desk import Desk
from local_runs import worker_on

from raybridge.evaluation.answerer import Local
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import frozen_arms, setting_of
from raybridge.models.names import POCKET
from raybridge.results import Results, TrialRun
from raybridge.training import workload
from raybridge.trial import Trial

TINY = '''"""Does everything run?"""

from dataclasses import replace

from raybridge.trial import Trial

axes = {"pocket": dict(soft_tokens=[4])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=120, warmup=4, batch=4, eval_every=20, dev_problems=4, test_problems=4)
    models = dict(source="./models/source, mine", target="models/target, mine")
    return replace(base, name=f"tiny_{soft_tokens}tok", translator=translator, **models, **cut)
'''


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A sweep in a folder in which its models are, and from which it is called."""
    at = tmp_path / "meine Läufe 尺寸"
    for model in ("source", "target"):
        copytree(POCKET / model, at / "models" / f"{model}, mine")
    monkeypatch.chdir(at)
    file = at / "wie groß?.py"
    file.write_text(TINY, encoding="utf8")
    return Desk(at, file, at=at)


def numbers(run: TrialRun) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """All that must not depend on what happened on the way."""
    result = {key: value for key, value in run.result().items() if not key.endswith("seconds")}
    evals = run.evals().drop(columns=["seconds"]).sort_values(["step", "split", "arm", "reading"], ignore_index=True)
    return run.metrics().drop(columns=["tokens_per_second", "mfu", "seconds"]), evals, result


def undisturbed(trial: Trial, results: Results) -> TrialRun:
    """A trial run to its end in this process, from states on disk as a sweep's: read in a batch they may differ by a bit."""
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    here = Local(Models("cpu", kept=results.kept_states()))
    assert workload.run(trial, worker_on(run, lambda: here)) == "trained"
    workload.conclude(trial, run, here)
    return run


@pytest.mark.cluster
@pytest.mark.timeout(900)  # four launches, each of which starts Ray
def test_killed_then_interrupted_then_resumed_ends_with_the_numbers_of_an_undisturbed_run(desk, tmp_path):
    # Killed in the middle: the lock is free again, and a checkpoint is there.
    first = desk.launch()
    first.until(lambda: desk.run is not None and bool(desk.run.checkpoints()))
    first.killed()
    assert not desk.run.complete
    killed_at = desk.run.checkpoints()[-1]

    # Ctrl-C once, as a terminal sends it, to everything in the group: a checkpoint, 130, and the line that resumes.
    second = desk.launch()
    second.until(lambda: desk.run.checkpoints()[-1] > killed_at)
    assert f"resumes at step {killed_at}" in second.said
    os.killpg(second.process.pid, signal.SIGINT)
    assert second.process.wait(timeout=60) == 130, second.said
    assert not desk.run.complete
    assert f" -m raybridge.sweep {shlex.quote(str(desk.file))}" in second.said
    assert "Traceback" not in second.said
    stopped_at = desk.run.checkpoints()[-1]
    assert stopped_at > killed_at

    # The same command ends it.
    third = desk.launch({})  # its runs are on the dashboard
    assert third.process.wait(timeout=150) == 0, third.said
    assert f"resumes at step {stopped_at}" in third.said
    assert "dashboard http://127.0.0.1:" in third.said
    assert "tiny_4tok: complete, step 120 of 120" in third.said
    straight = undisturbed(desk.trial, Results(tmp_path / "straight"))
    for one, other in zip(numbers(straight)[:2], numbers(desk.run)[:2], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert numbers(straight)[2] == numbers(desk.run)[2]

    # The log has all three launches, the checkpoint that was asked for, and the end.
    told = (desk.run.path / "train.log").read_text(encoding="utf8")
    assert [f"from step {step} of 120" in told for step in (0, killed_at, stopped_at)] == [True] * 3
    assert f"step {stopped_at}: interrupted, checkpoint saved" in told
    assert "step 120: trained, all 120 steps" in told
    assert not list((desk.run.path).glob("failure.json"))

    # Everything is where the design says.
    folder = desk.results.sweep("wie groß?").path
    assert (folder / "summary.log").read_text(encoding="utf8").startswith("sweep wie groß?: Does everything run?")
    assert "tiny_4tok: first step" in third.said
    told = json.loads((folder / "ablation_results.json").read_text(encoding="utf8"))
    assert (told["missing"], [one["missing"] for one in told["trials"]]) == ([], [[]])
    assert (folder / "EXPERIMENTS_SUMMARY.md").exists()
    for split in ("dev", "test"):
        setting = setting_of(desk.trial, split)
        for arm in frozen_arms(split):
            assert desk.results.baseline(setting.key(arm)) is not None
    assert desk.run.provenance["versions"]["ray"]
    assert desk.run.config["source"] == "./models/source, mine"

    # And once more: nothing is left to run, no cluster is started, the same words come out.
    before = {path: path.stat().st_mtime_ns for path in desk.run.path.rglob("*")}
    fourth = desk.launch()
    assert fourth.process.wait(timeout=60) == 0, fourth.said
    assert "complete, reused" in fourth.said
    assert "dashboard" not in fourth.said
    assert {path: path.stat().st_mtime_ns for path in desk.run.path.rglob("*")} == before
    tables = fourth.said.split("complete, reused")[1].partition("\nresults: ")[0]
    assert tables.strip() == (folder / "summary.log").read_text(encoding="utf8").strip()
