"""A finished sweep of two tiny trials, made in this process, and the commands that a person types of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import typer
from local_runs import worker_on
from quick import quick_start, short_answers
from typer.testing import CliRunner

import raybridge.evaluate
import raybridge.plots.__main__
from raybridge import sweep
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import frozen_arms
from raybridge.plots.figures import plot_files
from raybridge.results import Results
from raybridge.results.launch import Timing
from raybridge.training import workload
from raybridge.training.worker import engine_of

SWEEP = '''"""Does it hold?"""

from dataclasses import replace

from raybridge.trial import Trial

axes = {"pocket": dict(soft_tokens=[4, 8])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=6, warmup=1, batch=4, eval_every=3, dev_problems=4, test_problems=4)
    return replace(base, name=f"tiny_{soft_tokens}tok", translator=translator, **cut)
'''
CLOCKS = re.compile(r"\d+(?:\.\d+)? ?(?:ms|s|min|tokens/s|problems/s|MB)\b|\d\d:\d\d:\d\d|[0-9a-f]{32}")
FIGURES = ("training_curves", "main_results")


@dataclass(frozen=True)
class Said:
    """What a command printed, how it ended, and whether an error came through that is no sentence."""

    code: int
    text: str
    error: BaseException | None

    @property
    def words(self) -> str:
        """Without the breaks that a terminal makes in lines."""
        return "".join(self.text.split())


@dataclass(frozen=True)
class Finished:
    """A folder of results with a complete sweep. file: the sweep's."""

    root: Path
    file: Path

    def commands(self) -> dict[str, tuple[typer.Typer, list[str]]]:
        """An app and its words, by what the command is for."""
        runner = typer.Typer()
        runner.command()(sweep.main)
        on = ["--results", str(self.root)]
        cheap = ["--arms", "bridged,bridged_int8,shuffled,target", "--bits", "8", "--timed", "0"]
        figures = [str(path) for path in plot_files() if path.stem in FIGURES]
        return {
            "dry run": (runner, [str(self.file), "--scale", "pocket", "--dry-run", *on]),
            "compare": (raybridge.evaluate.app, ["compare", "tiny_8tok", "tiny_4tok", "--on", "pocket", *on]),
            "evaluate": (raybridge.evaluate.app, ["tiny_8tok", *cheap, *on]),
            "plots": (raybridge.plots.__main__.app, [*figures, "--format", "png", *on]),
            "resume": (runner, [str(self.file), "--scale", "pocket", *on]),
        }

    def say(self, command: str) -> Said:
        """Run a command in this process."""
        app, words = self.commands()[command]
        done = CliRunner().invoke(app, words)
        error = None if isinstance(done.exception, SystemExit | None) else done.exception
        return Said(done.exit_code, CLOCKS.sub("", done.output), error)


@contextmanager
def without_ray(models: Models) -> Iterator[None]:
    """Launches run what is unfinished in this process, with answers of a few tokens."""
    from raybridge.cluster import session, tuner

    with short_answers(), quick_start(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "cluster", lambda *_, **__: nullcontext("none"))
        patch.setattr(tuner, "run_trials", partial(_run_trials, models))
        patch.setenv("NUM_GPUS", "0")
        yield


def _run_trials(models: Models, trials, *, judged, results: Results, folder, resources) -> dict[str, str]:
    """What the cluster does: unfinished trials go on, baselines are computed, failures are told."""
    models.kept = results.kept_states()
    failed = {}
    for trial in trials:
        run = results.open_trial(
            name=trial.name,
            fingerprint=trial.fingerprint,
            config=trial.resolved(),
            provenance=workload.provenance(trial),
        )
        worker = worker_on(run, lambda: Local(models))
        try:
            if not run.complete and run.trained() is None:
                workload.run(trial, worker)
            workload.conclude(trial, run, Local(models))
        except (ValueError, RuntimeError) as error:
            failed[trial.fingerprint] = str(error)
        else:
            run.launch.write_timing(Timing(started=1.0, first_step=2.0, ended=3.0))
    for setting in (setting for trial in judged for setting in engine_of(trial).settings(trial)):
        Keeper(setting=setting, results=results, answerer=Local(models)).rows(frozen_arms(setting.split))
    return failed


def finish(folder: Path) -> Finished:
    """Launch the sweep, evaluate a trial and draw; inside `without_ray`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Finished(folder / "results", folder / "asks.py")
    made.file.write_text(SWEEP, encoding="utf8")
    for command in ("resume", "evaluate", "compare", "plots"):
        said = made.say(command)
        assert said.code == 0, (said.text, said.error)
    return made
