"""The sweep command up to the cluster: plans, refusals, exit codes. Nothing here starts Ray."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from raybridge import HOUSE, console, sweep
from raybridge.cluster.session import SPARE_CPUS, gpus_there, shortfall
from raybridge.cluster.tuner import keep_failures
from raybridge.results import Results
from raybridge.results.launch import Timing
from raybridge.scales import FULL, POCKET, SCALES, SMALL
from raybridge.sweep_file import load
from raybridge.trial import Workload

COMPRESSION = HOUSE / "sweeps" / "compression.py"
LOSSES = COMPRESSION.with_name("loss_ablation.py")
POCKET_ON_GPUS = '''"""Pocket models under the resources of small."""

from dataclasses import replace

from evaluators.pocket import Pocket
from raybridge.trial import Trial

axes = {"small": dict(soft_tokens=[4])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, layers=(0, 2))
    pocket = dict(source="pocket:source", target="pocket:target", evaluator=Pocket(test=500), batch=120)
    return replace(base, name="a", translator=translator, **pocket)
'''
app = typer.Typer()


def planned(file: Path) -> list[Workload]:
    """The trials of a sweep on the pocket pair, as the command looks at them before it plans."""
    trials, dark = sweep.looked_at(load(file).trials(POCKET), POCKET.resources)
    assert not dark
    return trials


app.command()(sweep.main)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without GPUs, data or cluster, whatever this one has."""
    monkeypatch.setenv("NUM_GPUS", "0")
    for name in ("RAY_ADDRESS", "RAYBRIDGE_DATA", "RAYBRIDGE_MODELS"):
        monkeypatch.delenv(name, raising=False)


def launch(*words: object, root: Path) -> tuple[int, str]:
    """Exit code and output of the command, which must not have started a cluster or shown a traceback."""
    done = CliRunner().invoke(app, [*map(str, words), "--results", str(root)])
    assert "Traceback" not in done.output
    assert "dashboard" not in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def said(output: str) -> str:
    """The sentence of a refusal: one, at the end."""
    (sentence,) = [line for line in output.splitlines() if line.startswith("error ")]
    assert output.rstrip().endswith(sentence.rstrip())
    return sentence


def test_a_dry_run_prints_the_matrix_and_touches_nothing(tmp_path):
    code, output = launch(COMPRESSION, "--dry-run", root=tmp_path / "r")
    assert code == 0
    assert output.startswith("scale pocket (what this machine can carry; 0 GPU(s) here)\n")
    assert "sweep compression: How few soft tokens carry a grade-school question?" in output
    trials = planned(COMPRESSION)
    for trial in trials:
        (line,) = [line for line in output.splitlines() if trial.name in line]
        assert line.split() == [trial.name, trial.fingerprint[:8], str(trial.translator.soft_tokens), "runs"]
    assert "all of them: steps: 120, losses: 1 answer" in output  # said once
    assert "models: pocket:source to pocket:target, benchmark: pocket, 200 test problems" in output
    assert "time: no earlier trial of the same models, benchmark and batch tells how long it takes" in output
    assert not (tmp_path / "r").exists()


def test_a_dry_run_says_what_is_complete_what_resumes_and_what_runs(tmp_path):
    trials = planned(COMPRESSION)
    for number, trial in enumerate(trials[:2]):
        run = Results(tmp_path).open_trial(
            name=f"of_another_sweep_{number}", fingerprint=trial.fingerprint, config=trial.resolved(), provenance={}
        )
        run.write_checkpoint(60, {"state.json": b"{}"})
        if number == 0:
            run.finish({})
    _, output = launch(COMPRESSION, "--dry-run", root=tmp_path)
    plans = [next(line for line in output.splitlines() if trial.name in line).rstrip() for trial in trials]
    assert plans[0].endswith("complete, reused")
    assert plans[1].endswith("resumes at step 60")
    assert plans[2].endswith("runs")


def test_a_smoke_run_is_other_trials(tmp_path):
    for trial in planned(COMPRESSION):
        Results(tmp_path).open_trial(
            name=trial.name, fingerprint=trial.smoke().fingerprint, config=trial.smoke().resolved(), provenance={}
        ).finish({})
    _, output = launch(COMPRESSION, "--dry-run", "--smoke", root=tmp_path)
    assert "complete, reused" not in output  # of the real folder
    for trial in planned(COMPRESSION):
        smoke = trial.smoke()
        assert smoke.fingerprint[:8] in output
        assert trial.fingerprint[:8] not in output


def run_without_ray(monkeypatch, text: str, root: Path, *words: str) -> tuple[int, str]:
    """The command on a sweep file, its trials ended as by a cluster."""

    def ended(trials, *, folder, chosen, results):
        folder.write_plan(
            {"smoke": results.root.name == "smoke", "trials": [{"name": t.name, "fingerprint": "f"} for t in trials]}
        )
        for trial in trials:
            run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config={"name": trial.name}, provenance={})
            run.finish({"steps": 1, "headline": {"name": "peak", "value": 0.5}})
        return {}

    monkeypatch.setattr(sweep, "launch", ended)
    file = root / "asks.py"
    file.write_text(text, encoding="utf8")
    done = CliRunner().invoke(app, [str(file), "--results", str(root / "r"), *words])
    return done.exit_code, done.output


def test_a_mistake_in_a_follow_up_leaves_the_summary_written(tmp_path, monkeypatch):
    text = COMPRESSION.read_text(encoding="utf8") + "\n\ndef follow_up(ended):\n    return [ended[0][1]['finl']]\n"
    code, output = run_without_ray(monkeypatch, text, tmp_path)
    assert code == 2
    assert "unknown key of a result 'finl'; valid: name, fingerprint, steps, stopped, reason, peak" in said(output)
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


def test_a_dry_run_says_how_long_it_may_take_where_earlier_trials_tell(tmp_path):
    trials = planned(COMPRESSION)
    for number, trial in enumerate(trials[:2]):
        run = Results(tmp_path).open_trial(
            name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={}
        )
        run.launch.write_timing(Timing(started=1000.0, first_step=1001.0, ended=1000.0 + 120 * (number + 2)))
        run.finish({"steps": 120})
    _, output = launch(COMPRESSION, "--dry-run", root=tmp_path)
    assert "time: about 5 min for 2 trials, as long a step as 2 earlier took" in output  # 2.5 s a step, two at a time


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


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_every_scale_can_be_planned_anywhere(tmp_path, scale):
    code, output = launch(LOSSES, "--dry-run", "--scale", scale.name, root=tmp_path)
    assert code == 0
    assert output.startswith(f"scale {scale.name} (asked for; 0 GPU(s) here)")
    assert ("not known here: model" in output) == (scale is not POCKET)


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The compression sweep with one part replaced."""
    file = tmp_path / "edited.py"
    text = COMPRESSION.read_text(encoding="utf8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf8")
    return file


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("seed=True,", "Trial: seed must be a whole number, not True"),
        ("seed=2**70,", "seed must lie in 0..4294967295"),
        ("steps=2.5,", "Trial: steps must be a whole number, not 2.5"),
        ('stopping="early",', "Trial: stopping must be a Stopping, not 'early'"),
        ('evaluator="gsm8k",', "Trial: evaluator must be an Evaluator, not 'gsm8k'"),
        ('source="",', "source must name a model, not ''"),
        ('source="./models/x",', "unknown model './models/x'"),
        ("dev_problems=401,", "dev_problems asks for 401 problems, and the dev split of pocket has 400"),
        ("test_problems=401,", "test_problems asks for 401 problems, and the test split of pocket has 400"),
        ("batch=20_001,", "batch asks for 20,001 problems, and the train split of pocket has 20,000"),
        ("evaluator=Svamp(),", "svamp has no split 'train'"),
    ],
)
def test_what_would_die_later_is_refused_in_the_plan(tmp_path, change, sentence):
    file = edited(tmp_path, "seed=seed,", change)
    imports = "from evaluators.svamp import Svamp\nfrom raybridge.trial import Trial"
    file.write_text(file.read_text(encoding="utf8").replace("from raybridge.trial import Trial", imports), encoding="utf8")
    code, output = launch(file, "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert sentence in said(output)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("translator", "sentence"),
    [
        ("replace(base.translator, soft_tokens=8.5)", "Bottlenecked: soft_tokens must be a whole number, not 8.5"),
        (
            "replace(base.translator, soft_tokens=25_000 * soft_tokens)",
            "soft_tokens 100,000 and the 96 tokens of an answer do not fit in the 1,024 positions of pocket:target",
        ),
        (
            "replace(base.translator, soft_tokens=soft_tokens, layers=(0, 99))",
            "layers of its translator names 99, but the hidden states of pocket:source are 0..4 (4 layers)",
        ),
        (
            "Injection(translator=base.translator, soft_tokens=soft_tokens, target_layers=(4,))",
            "target_layers of its translator names 4, but the hidden states of pocket:target are 0..3 (4 layers)",
        ),
        ('"linear"', "Trial: translator must be a Translator, not 'linear'"),
    ],
)
def test_a_translator_that_its_models_cannot_carry_is_refused_in_the_plan(tmp_path, translator, sentence):
    file = edited(tmp_path, "replace(base.translator, soft_tokens=soft_tokens)", translator)
    imports = "from raybridge.translators.injection import Injection\nfrom raybridge.trial"
    text = file.read_text(encoding="utf8").replace('tok"', '"').replace("from raybridge.trial", imports)
    file.write_text(text, encoding="utf8")
    code, output = launch(file, "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert sentence in said(output)


def test_a_test_split_that_is_too_small_is_seen_in_the_plan(tmp_path, monkeypatch):
    row = '{"question": "How many?", "answer": "It is 3.\\n#### 3"}\n'
    (tmp_path / "gsm8k").mkdir()
    for split, count in (("train", 800), ("test", 499)):
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(row * count, encoding="utf8")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"{SMALL.trial.target}={HOUSE / 'raybridge' / 'pocket' / 'target'}")
    code, output = launch(COMPRESSION, "--scale", "small", "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert "test_problems asks for 500 problems, and the test split of gsm8k has 499" in said(output)


def test_a_batch_that_the_workers_cannot_share_is_refused_in_the_plan(tmp_path, monkeypatch):
    file = tmp_path / "pocket_on_gpus.py"
    file.write_text(POCKET_ON_GPUS, encoding="utf8")
    monkeypatch.setenv("NUM_GPUS", "7")
    code, output = launch(file, "--scale", "small", "--gpus", "7", "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert "trial a: batch 120 cannot be shared by 7 workers: it must be a multiple of them" in said(output)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compresion.py"], "unknown sweep file"),
        ([COMPRESSION, "--scale", "pokcet"], "unknown scale 'pokcet'; valid: pocket, small, full; did you mean 'pocket'?"),
        ([COMPRESSION, "--scale", "small", "--gpus", "0"], "--gpus must be at least 1 at scale small, not 0"),
        ([COMPRESSION, "--scale", "pocket", "--gpus", "2"], "--gpus 2: scale pocket uses none"),
        ([COMPRESSION, "--scale", "small"], "SmolLM2-135M-Instruct"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence_and_exit_2(tmp_path, words, sentence, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no model is looked for on a network
    code, output = launch(*words, root=tmp_path)
    assert code == 2
    assert sentence in said(output)


def test_a_model_that_is_not_there_gets_the_nearest(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(
        COMPRESSION.read_text(encoding="utf8").replace("seed=seed,", 'seed=seed, source="pocket:sorce",'), encoding="utf8"
    )
    code, output = launch(file, root=tmp_path)
    assert code == 2
    assert "'pocket:sorce'" in said(output)
    assert "did you mean 'pocket:source'?" in said(output)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('{"question": "How many?", "answer": "It is 3\\n#### 3"', "line 2: not JSON"),
        ('{"question": "How many?"}', "line 2: no field 'answer'"),
        ('{"question": "How many?", "answer": "It is three."}', "####"),
        ('{"question": "How many?", "answer": null}', "line 2: field 'answer' is null"),
    ],
)
def test_a_broken_line_of_a_dataset_is_named_before_anything_starts(tmp_path, monkeypatch, row, sentence):
    good = '{"question": "How many?", "answer": "It is 3.\\n#### 3"}\n'
    for split in ("train", "test"):
        path = tmp_path / "data" / "gsm8k" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(good + row + "\n", encoding="utf8")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"{SMALL.trial.target}={HOUSE / 'raybridge' / 'pocket' / 'target'}")
    code, output = launch(COMPRESSION, "--scale", "small", root=tmp_path / "r")
    assert code == 2
    assert sentence in said(output)
    assert ".jsonl" in said(output)


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


def test_ctrl_c_asks_every_trial_to_stop_and_the_next_launch_asks_no_more(tmp_path):
    folder = Results(tmp_path).sweep("s")
    with folder.locked(), sweep.stoppable(folder, "the same again"):
        assert not folder.stopped()
        os.kill(os.getpid(), signal.SIGINT)
        assert folder.stopped()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with folder.locked(), sweep.stoppable(folder, "the same again"):
        assert not folder.stopped()


def test_debug_shows_the_traceback(tmp_path):
    done = CliRunner().invoke(app, [str(tmp_path / "none.py"), "--debug"])
    assert isinstance(done.exception, ValueError)


@pytest.mark.parametrize(("gpus", "scale"), [("0", "pocket"), ("1", "small"), ("3", "small"), ("4", "full"), ("8", "full")])
def test_the_scale_is_what_the_machine_can_carry(monkeypatch, capsys, gpus, scale):
    monkeypatch.setenv("NUM_GPUS", gpus)
    assert sweep.choose_scale(None, None).name == scale
    assert sweep.choose_scale("pocket", None) == POCKET


def test_gpus_asked_for_are_workers_and_replicas(monkeypatch):
    monkeypatch.setenv("NUM_GPUS", "8")
    chosen = sweep.choose_scale("full", 8)
    assert (chosen.resources.workers, chosen.resources.replicas) == (8, 8)
    assert chosen.trial == FULL.trial
    assert sweep.choose_scale(None, 1).name == "small"


def test_num_gpus_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("NUM_GPUS", "two")
    with pytest.raises(ValueError, match="NUM_GPUS='two' is not a number of GPUs"):
        gpus_there()


def test_a_cluster_that_is_too_small_says_what_was_asked_what_there_is_and_what_to_type():
    assert shortfall(POCKET.resources, {"CPU": 2.0}) is None
    assert shortfall(FULL.resources, {"CPU": 64.0, "GPU": 4.0}) is None
    few = shortfall(FULL.resources, {"CPU": 64.0, "GPU": 2.0})
    assert few is not None
    assert "4 worker(s) with 4 GPU(s)" in few
    assert "the cluster has 2 GPU(s) and 64 CPU(s)" in few
    assert "--gpus 2" in few
    assert "--scale pocket" in (shortfall(SMALL.resources, {"CPU": 64.0}) or "")
    workers = replace(POCKET.resources, workers=4, cpus_per_worker=1)
    assert shortfall(workers, {"CPU": 4.0 + SPARE_CPUS}) is None
    assert "more cores" in (shortfall(workers, {"CPU": 4.0}) or "")


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


def test_a_bug_is_no_refusal():
    with pytest.raises(AssertionError), console.guarded(Console(), debug=False):
        raise AssertionError


def test_trials_without_a_result_fail_the_command_with_their_reasons(trial, tmp_path):
    results = Results(tmp_path)
    other = replace(trial, name="other", seed=7)
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    (run.path / "failure.json").write_text('{"sentence": "loss term \'answer\' is nan at step 7"}', encoding="utf8")
    with pytest.raises(RuntimeError, match="trial tiny has no result: loss term 'answer' is nan at step 7") as caught:
        sweep.fail_if_failed(sweep.why_without([trial, other], results, {}))
    assert "trial other has no result" in str(caught.value)
    run.finish({})
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
