"""The commands under one name, as the console script calls them and as `python -m raybridge` does."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from raybridge import HOUSE, evaluate
from raybridge.__main__ import COMMANDS, main


@pytest.fixture
def called(monkeypatch, capsys, tmp_path):
    """A function that calls the console script's function in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/raybridge", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_names_every_command(called, words):
    code, out, err = called(*words)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[2:]] == [*COMMANDS, "--version", "--completion"]


def test_version_is_the_packages(called):
    assert called("--version") == (0, f"raybridge {version('raybridge')}\n", "")


def test_a_shell_is_told_what_may_stand_next(called, tmp_path):
    (tmp_path / "ray_results/trials/tiny-01234567").mkdir(parents=True)
    assert called("--complete", "")[1].split() == [*COMMANDS, "--help", "--version", "--completion"]
    assert {"--dry-run", "--log-to", "--help"} < set(called("--complete", "sweep", "--")[1].split())
    assert called("--complete", "sweep", "--log-to", "")[1].split() == ["tensorboard", "wandb", "mlflow"]
    assert {"compare", "trial", "tiny-01234567", "--on"} < set(called("--complete", "evaluate", "")[1].split())
    assert "--step-a" in called("--complete", "evaluate", "compare", "--")[1].split()
    assert called("--complete", "nothing", "")[1] == ""


@pytest.mark.parametrize("words", [("sw",), ("evaluate", "comp"), ("plots", "--tri")])
def test_bash_completes_a_word(words, tmp_path):
    here = tmp_path / "raybridge"
    here.write_text(f'#!/bin/sh\nPYTHONPATH={HOUSE} exec {sys.executable} -m raybridge "$@"\n')
    here.chmod(0o755)
    ask = f"""eval "$(raybridge --completion bash)"; COMP_WORDS=(raybridge {" ".join(words)}); COMP_CWORD={len(words)}
    _raybridge; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    assert done.stdout.split() == [{"sw": "sweep", "comp": "compare", "--tri": "--trials"}[words[-1]]]


def test_a_mistyped_command_is_refused_with_its_nearest(called):
    code, out, err = called("sweeep", "sweeps/compression.py")
    assert (code, out) == (2, "")
    assert err == "error unknown command 'sweeep'; valid: sweep, evaluate, plots, serve; did you mean 'sweep'?\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_a_commands_usage_says_how_it_was_called(called, command, option):
    code, out, _ = called(command, option)
    assert code == 0
    assert f"Usage: raybridge {command} [OPTIONS]" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("sweep", "nowhere.py"), 2, "unknown sweep file 'nowhere.py'"),
        (("evaluate", "summarize", "nowhere"), 2, "nowhere is no trial's directory"),
        (("plots", "--results", "nowhere"), 2, "there is no folder nowhere"),
        (("plots", "--colour"), 2, "No such option: --colour"),
    ],
)
def test_a_commands_refusal_and_exit_code_are_its_own(called, words, code, says):
    ended, out, err = called(*words)
    assert ended == code
    assert says in " ".join((out + err).split())


def test_a_users_evaluator_is_found_where_he_stands(tmp_path):
    (tmp_path / "evaluators").mkdir()
    (tmp_path / "evaluators" / "mine.py").write_text("")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "raybridge"  # Python looks beside a script, not where the user stands
    script.write_text("from raybridge.__main__ import main\nmain()")
    words = [sys.executable, script, "evaluate", "--source", "a", "--target", "b", "--on", "minee"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean 'mine'?" in done.stdout + done.stderr


def test_as_a_module_it_is_the_same_command():
    words = [sys.executable, "-m", "raybridge", "plots", "--results", "nowhere"]
    done = subprocess.run(words, cwd=HOUSE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error there is no folder nowhere")


def test_several_gpus_are_those_behind_the_one_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(evaluate, "_device", lambda asked: asked)
    assert evaluate._devices("cuda", 2) == ["cuda:0", "cuda:1"]
    assert evaluate._devices("cuda:2", 3) == ["cuda:2", "cuda:3", "cuda:4"]
    assert evaluate._devices("cpu", 1) == ["cpu"]
    with pytest.raises(ValueError, match="--gpus-per-model 2: cpu is no GPU"):
        evaluate._devices("cpu", 2)
