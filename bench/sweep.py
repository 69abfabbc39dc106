"""A small sweep at pocket scale, as a user runs it, against the same trials in a plain loop in one process.

raybridge: the command, with the start of its processes, all arms on dev and test, checkpoints and the summary. Plain: padded
training, and three arms by `generate` at the same points, nothing written down. The share is of the trials' time outside
training and evaluation, which the command's summary tells; the ratio is of the whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from bench.card import head
from bench.plain_answers import Asked
from bench.plain_training import PlainTrainer
from bench.report import Report, rows_of
from bench.turns import Call, Ready, Way, Work, taken_in_turns
from raybridge.evaluation.setting import problems_of
from raybridge.models import lm as lms
from raybridge.results import Results
from raybridge.scales import POCKET
from raybridge.sweep_file import load
from raybridge.training.batches import Batches
from raybridge.trial import Trial
from raybridge.world import World

DEVICE = torch.device("cpu")
FILE = '''"""What does a sweep cost?"""

from dataclasses import replace

from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.trial import Trial

axes = {"pocket": dict(soft_tokens=[8, 16])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens)
    cut = dict(steps=20, warmup=2, batch=16, eval_every=20, dev_problems=8, test_problems=8)
    losses = (AnswerNLL(), Reconstruction())
    return replace(base, name=f"cost_{soft_tokens}tok", translator=translator, losses=losses, **cut)
'''


def sweep(scale: str, *, repeats: int | None = None) -> Report:
    """Time it. repeats: of each way; None for one."""
    if scale != POCKET.name:
        raise ValueError(f"a sweep is timed at scale {POCKET.name} alone, not at {scale}: larger ones take hours")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cost.py"
        file.write_text(FILE, encoding="utf8")
        trials = [trial for trial in load(file).trials(POCKET) if isinstance(trial, Trial)]
        results = [Path(folder) / f"results_{number}" for number in range(1 + (repeats or 1))]
        ways = [
            Way(name="raybridge", ready=_command(file, iter(results), trials), beside="plain"),
            Way(name="plain", ready=_loop(trials)),
        ]
        seen = taken_in_turns(ways, rounds=1, repeats=repeats or 1, device=DEVICE, warm=True)
        told = [timing for root in results for run in Results(root).trials() if (timing := run.launch.timing()) is not None]
        spent = sum(one.ended - one.started for one in told)
        outside = sum(one.first_step - one.started for one in told if one.first_step is not None)
        ours, plain = rows_of(seen, most=None, by="problems")
    return Report(
        bench="sweep",
        head=head(DEVICE, scale, {"trials": str(len(trials)), "source": trials[0].source, "target": trials[0].target}),
        step="a trial",
        share="outside",
        rows=[replace(ours, share=outside / spent), plain],
        notes=["outside: of the trials' time, what is neither training nor evaluation; starting Ray and planning not counted"],
    )


def work_of(trials: Sequence[Trial]) -> Work:
    """The problems that the trials train on."""
    return Work(problems=sum(trial.steps * trial.batch for trial in trials), tokens=None, steps=len(trials))


def _command(file: Path, roots: Iterator[Path], trials: Sequence[Trial]) -> Ready:
    """The command a user types, into an empty folder each time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"NUM_GPUS": "0"}

    def once() -> Callable[[], Work]:
        words = [sys.executable, "-m", "raybridge.sweep", str(file), "--scale", POCKET.name, "--results", str(next(roots))]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the sweep ended with exit code {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return partial(work_of, trials)

    @contextmanager
    def ready() -> Iterator[Call]:
        yield once

    return ready


def _loop(trials: Sequence[Trial]) -> Ready:
    """One trial after another, the models loaded once."""

    def once() -> Callable[[], Work]:
        source, target = (lms.load(name, device=DEVICE) for name in (trials[0].source, trials[0].target))
        for trial in trials:
            trainer, batches = PlainTrainer(trial, source, target, part=trial.batch), Batches(trial, source, target)
            asked = Asked(
                source=source,
                target=target,
                translator=trial.translator,
                module=trainer.translator,
                evaluator=trial.evaluator,
            )
            for step in range(trial.steps):
                trainer.step(batches.of_step(step, World()))
                if step + 1 in trial.points:
                    asked.answers(problems_of(trial, "dev"))
            asked.answers(problems_of(trial, "test"))
        return partial(work_of, trials)

    @contextmanager
    def ready() -> Iterator[Call]:
        yield once

    return ready
