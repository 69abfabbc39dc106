"""How the sweep command ends where it cannot go on: one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import typer
from launched import COMPRESSION, POCKET_ON_GPUS, app, bare, launch, said
from opened import ENDED
from rich.console import Console
from typer.testing import CliRunner

from raybridge import console, sweep
from raybridge.cluster.session import shortfall
from raybridge.cluster.tuner import keep_failures
from raybridge.results import Results
from raybridge.scales import DRIVER_CPUS, FULL, POCKET, SMALL, Machine, Node


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    bare(monkeypatch)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compresion.py"], "unknown sweep file"),
        ([COMPRESSION, "--scale", "pokcet"], "unknown scale 'pokcet'; valid: pocket, small, full; did you mean 'pocket'?"),
        ([COMPRESSION, "--scale", "small", "--gpus", "0"], "--gpus must be at least 1 at scale small, not 0"),
        ([COMPRESSION, "--scale", "pocket", "--gpus", "2"], "--gpus 2: scale pocket uses none"),
        ([COMPRESSION, "--concurrent", "0"], "--concurrent must be at least 1 at scale pocket, not 0"),
        (
            [COMPRESSION, "--concurrent", "1000"],
            "--concurrent 1000: a trial takes 0 GPU(s) and 0.501 CPU(s), and there are 0 and",
        ),
        ([COMPRESSION, "--scale", "small"], "Qwen2.5-Coder-1.5B-Instruct"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_2(tmp_path, words, sentence, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no model is looked for on a network
    code, output = launch(*words, root=tmp_path)
    assert code == 2
    assert sentence in said(output)


def test_debug_shows_the_traceback(tmp_path):
    done = CliRunner().invoke(app, [str(tmp_path / "none.py"), "--debug"])
    assert isinstance(done.exception, ValueError)


def test_num_gpus_that_is_no_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("NUM_GPUS", "two")
    code, output = launch(COMPRESSION, root=tmp_path)
    assert code == 2
    assert "NUM_GPUS='two' is not a number of GPUs" in said(output)


def test_a_cluster_that_is_too_small_says_what_was_asked_what_there_is_and_what_to_type():
    assert shortfall(POCKET.resources, Machine(gpus=0, cpus=2)) is None
    assert shortfall(FULL.resources, Machine(gpus=4, cpus=64)) is None
    assert shortfall(FULL.resources, Machine(gpus=4, cpus=16)) is None
    assert shortfall(SMALL.resources, Machine(gpus=1, cpus=4)) is None
    few = shortfall(FULL.resources, Machine(gpus=2, cpus=64))
    assert few is not None
    assert "4 worker(s) with 4 GPU(s)" in few
    assert "the cluster has 2 GPU(s) and 64 CPU(s)" in few
    assert "--gpus 2" in few
    assert "--scale pocket" in (shortfall(SMALL.resources, Machine(gpus=0, cpus=64)) or "")
    workers = replace(POCKET.resources, workers=4, cpus_per_worker=1)
    assert shortfall(workers, Machine(gpus=0, cpus=4 + DRIVER_CPUS)) is None
    assert "more cores" in (shortfall(workers, Machine(gpus=0, cpus=4)) or "")


def test_a_cluster_that_has_enough_in_all_and_on_no_node_says_what_a_worker_asks_and_what_the_nodes_have():
    def made_of(**nodes: tuple[int, float]) -> Machine:
        there = tuple(Node(id=name, name=name, gpus=gpus, cpus=cpus) for name, (gpus, cpus) in nodes.items())
        return Machine(gpus=sum(one.gpus for one in there), cpus=sum(one.cpus for one in there), cluster=True, nodes=there)

    small = replace(SMALL.resources, cpus_per_worker=4)
    assert shortfall(small, made_of(head=(0, 4), other=(1, 1))) == (
        "a trial asks for 1 worker(s), each with 1 GPU(s) and 4 CPU(s) of one node; there is room for 0: head has 0 GPU(s) and "
        "4 CPU(s), other has 1 GPU(s) and 1 CPU(s); start nodes with more (ray start --num-gpus, --num-cpus)"
    )
    assert shortfall(small, made_of(head=(0, 1), other=(1, 4))) is None
    full = replace(small, workers=4)
    assert "there is room for 2: " in (few := shortfall(full, made_of(a=(2, 32), b=(2, 3))) or "")
    assert "; type --gpus 2, or start nodes with more" in few
    assert shortfall(full, made_of(a=(2, 9), b=(2, 9))) is None
    assert "each with 0 GPU(s) and 2 CPU(s)" in (
        shortfall(replace(POCKET.resources, cpus_per_worker=2), made_of(a=(0, 1.5), b=(0, 1.5))) or ""
    )


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("axis [bold]x[/nope] is wrong"), 2, "error axis [bold]x[/nope] is wrong"),
        (RuntimeError("trial a has no result"), 1, "error trial a has no result"),
        (OSError(errno.ENOSPC, "No space", "/r/evals.parquet"), 1, "the disk is full; what was complete is kept"),
        (PermissionError(errno.EACCES, "Permission denied", "/r"), 1, "error Permission denied: /r"),
    ],
)
def test_exit_codes_of_refusals_and_failures(capsys, error, code, sentence):
    with pytest.raises(typer.Exit) as ended, console.guarded(Console(width=200), debug=False):
        raise error
    assert ended.value.exit_code == code
    assert sentence in capsys.readouterr().out


def test_an_exit_code_that_was_chosen_stays():
    with pytest.raises(typer.Exit) as ended, console.guarded(Console(), debug=False):
        raise typer.Exit(130)
    assert ended.value.exit_code == 130


def test_a_bug_is_no_refusal_and_no_traceback(capsys):
    with pytest.raises(typer.Exit) as ended, console.guarded(Console(), debug=False):
        {}["gone"]
    assert ended.value.exit_code == console.FAILURE
    said = capsys.readouterr().out
    assert re.fullmatch(r"error a defect of raybridge, KeyError: 'gone' \(.*\.py:\d+\); --debug shows the traceback\n", said)
    with pytest.raises(KeyError), console.guarded(Console(), debug=True):
        {}["gone"]


def test_trials_without_a_result_fail_the_command_with_their_reasons(trial, tmp_path):
    results = Results(tmp_path)
    other = replace(trial, name="other", seed=7)
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    (run.path / "failure.json").write_text('{"sentence": "loss term \'answer\' is nan at step 7"}', encoding="utf8")
    with pytest.raises(RuntimeError, match="trial tiny has no result: loss term 'answer' is nan at step 7") as caught:
        sweep.fail_if_failed(sweep.why_without([trial, other], results, {}))
    assert "trial other has no result" in str(caught.value)
    run.finish(ENDED)
    sweep.fail_if_failed(sweep.why_without([trial], results, {}))


def test_a_trial_that_fails_before_it_has_a_directory_says_why(trial, tmp_path):
    results = Results(tmp_path)
    other = replace(trial, name="other", seed=7)
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    told = "ray::drive()\n  File x.py\nValueError: unknown model"
    failed = keep_failures({trial.fingerprint: told, other.fingerprint: told}, results)
    assert failed == {other.fingerprint: "ValueError: unknown model"}
    assert run.failure() == "ValueError: unknown model"
    why = dict.fromkeys((trial.name, other.name), "ValueError: unknown model")
    assert sweep.why_without([trial, other], results, failed) == why
    run.launch.fail("killed at step 3", traceback="")
    assert keep_failures({trial.fingerprint: told}, results) == {}
    assert run.failure() == "killed at step 3"  # what it said itself stays


def test_the_token_of_this_machines_clusters_is_sent_to_an_existing_one(tmp_path):
    asked = "import os, raybridge.cluster; print(os.environ.get('RAY_AUTH_MODE'))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}

    def mode(**more: str) -> str:
        done = subprocess.run([sys.executable, "-c", asked], env=environment | more, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert mode(RAY_ADDRESS="auto") == "None"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("abc", encoding="utf8")
    assert mode(RAY_ADDRESS="auto") == "token"
    assert mode(RAY_ADDRESS="auto", RAY_AUTH_MODE="disabled") == "disabled"
    assert mode() == "None"


def test_an_address_where_no_cluster_answers_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("NUM_GPUS")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, output = launch(COMPRESSION, "--dry-run", root=tmp_path)
    assert code == 2
    assert "RAY_ADDRESS=127.0.0.1:1: no Ray cluster answers there" in said(output)


def test_more_gpus_than_the_machine_has_are_refused_before_a_cluster_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("NUM_GPUS", "2")
    monkeypatch.setattr("raybridge.models.names.check", lambda name: None)
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("a cluster was started"))
    file = tmp_path / "pocket_on_gpus.py"
    file.write_text(POCKET_ON_GPUS, encoding="utf8")
    code, output = launch(file, "--scale", "small", "--gpus", "3", root=tmp_path / "r")
    assert code == 2
    assert "asks for 3 worker(s) with 3 GPU(s)" in said(output)
    assert "the cluster has 2 GPU(s)" in said(output)
    assert "type --gpus 2" in said(output)


def test_gpus_that_torch_cannot_use_here_are_planned_for_and_refused_before_a_cluster_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("NUM_GPUS", "1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("raybridge.models.names.check", lambda name: None)
    monkeypatch.setattr("ray.init", lambda *address, **options: pytest.fail("a cluster was started"))
    file = tmp_path / "pocket_on_gpus.py"
    file.write_text(POCKET_ON_GPUS, encoding="utf8")
    code, output = launch(file, "--scale", "small", root=tmp_path / "r")
    assert code == 2
    assert re.search(r"1 GPU\(s\) are told, and on this machine torch .*; set RAY_ADDRESS to a cluster", said(output))
    assert launch(file, "--scale", "small", "--dry-run", root=tmp_path / "r")[0] == 0
