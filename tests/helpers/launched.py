"""The sweep command as a test calls it: up to the cluster, which it must not start."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from raybridge import HOUSE, sweep
from raybridge.scales import POCKET
from raybridge.sweep_file import load
from raybridge.training.inspection import looked_at
from raybridge.trial import Workload

COMPRESSION = HOUSE / "sweeps" / "compression.py"
SMOLLM = COMPRESSION.with_name("smollm.py")

LOSSES = COMPRESSION.with_name("loss_ablation.py")

POCKET_ON_GPUS = '''"""Pocket models under the resources of small."""

from dataclasses import replace

from evaluators.pocket import Pocket
from raybridge.trial import Trial

axes = {"small": dict(soft_tokens=[4])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, layers=(0, 2))
    pocket = dict(source="pocket:source", target="pocket:target", evaluator=Pocket(test=500), batch=120)
    pocket |= dict(mixture=None, own_answers=None, exemplars=False)
    return replace(base, name="a", translator=translator, **pocket)
'''

app = typer.Typer()


def planned(file: Path) -> list[Workload]:
    """The trials of a sweep on the pocket pair, as the command looks at them before it plans."""
    trials, dark = looked_at(load(file).trials(POCKET), device="cpu", workers=1)
    assert not dark
    return trials


app.command()(sweep.main)


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


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The compression sweep with one part replaced."""
    file = tmp_path / "edited.py"
    text = COMPRESSION.read_text(encoding="utf8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf8")
    return file


def bare(monkeypatch) -> None:
    """A machine without GPUs, data or cluster, whatever this one has."""
    monkeypatch.setenv("NUM_GPUS", "0")
    for name in ("RAY_ADDRESS", "RAYBRIDGE_DATA", "RAYBRIDGE_MODELS"):
        monkeypatch.delenv(name, raising=False)
