"""`python -m raybridge.sweep FILE`: plan, train, evaluate, stop, resume."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from raybridge import sweep_file
from raybridge.analysis.progress import Row, changes, row_of, table
from raybridge.analysis.summary import write_summary
from raybridge.console import guarded
from raybridge.errors import unknown
from raybridge.models import names
from raybridge.results import Results, TrialRun
from raybridge.results.sweep_folder import SweepFolder
from raybridge.scales import SCALES, Scale
from raybridge.trial import Trial

console = Console(width=None if sys.stdout.isatty() else 140)  # a log file has no width of its own
ROOM = 2**20  # bytes free, below which a disk counts as full


def main(
    file: Annotated[Path, typer.Argument(help="a file of sweeps/, such as sweeps/compression.py")],
    scale: Annotated[str | None, typer.Option(help="pocket, small or full; default: what this machine can carry")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="a few steps and problems of every trial")] = False,
    gpus: Annotated[int | None, typer.Option(help="training workers a trial, a GPU each")] = None,
    results: Annotated[Path, typer.Option(help="where results are")] = Path("ray_results"),
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Run every trial of a sweep that has no result yet, and write its summary."""
    with guarded(console, debug=debug):
        run(file, scale_name=scale, dry_run=dry_run, smoke=smoke, gpus=gpus, results=Results(results))


def run(file: Path, *, scale_name: str | None, dry_run: bool, smoke: bool, gpus: int | None, results: Results) -> None:
    """The command, without its command line."""
    sweep = sweep_file.load(file)
    chosen = choose_scale(scale_name, gpus)
    trials = sweep.trials(chosen)
    if smoke:
        trials = [chosen.smoke(trial) for trial in trials]
    console.print(f"sweep {sweep.name}: {sweep.question}", highlight=False, markup=False)
    console.print(plan_table(trials, results))
    if dry_run:
        return
    for name in sorted({model for trial in trials for model in (trial.source, trial.target)}):
        names.check(name)
    for trial in trials:
        trial.evaluator.problems("dev")  # a dataset that is not there is said now
    folder = results.sweep(sweep.name)
    resume = f"python -m raybridge.sweep {shlex.join(sys.argv[1:])}"
    with locked(folder), stoppable(folder, resume) as stop_file:
        failed = launch(trials, folder=folder, chosen=chosen, results=results, stop_file=stop_file)
        if not stop_file.exists() and (further := sweep.further(trials, results)):
            console.print("what was found asks for more:")
            console.print(plan_table(further, results))
            trials = [*trials, *further]
            failed |= launch(trials, folder=folder, chosen=chosen, results=results, stop_file=stop_file)
        if stop_file.exists():
            console.print(
                f"stopped; every trial has its checkpoint. To go on: {resume}", soft_wrap=True, highlight=False, markup=False
            )
            raise typer.Exit(130)
    why = why_without(trials, results, failed)
    text = write_summary(trials, sweep=sweep.name, question=sweep.question, results=results, why=why)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    fail_if_failed(why)


def choose_scale(name: str | None, gpus: int | None) -> Scale:
    """The scale that was asked for, or what the machine can carry; said in the first line."""
    from raybridge.cluster.session import gpus_there

    there = gpus_there()
    known = {scale.name: scale for scale in SCALES}
    if name is not None and name not in known:
        raise unknown("scale", name, known)
    carried = there if gpus is None else gpus
    fitting = "full" if carried >= known["full"].resources.workers else "small" if carried > 0 else "pocket"
    scale = known[name or fitting]
    where, carrier = ("on the cluster", "the cluster") if os.environ.get("RAY_ADDRESS") else ("here", "this machine")
    why = "asked for" if name else f"what {carrier if gpus is None else f'--gpus {gpus}'} can carry"
    console.print(f"scale {scale.name} ({why}; {there} GPU(s) {where})", highlight=False)
    if gpus is None:
        return scale
    if not scale.resources.gpus_per_worker:
        raise ValueError(
            f"--gpus {gpus}: scale {scale.name} uses none; leave --gpus out, or type --scale small or --scale full"
        )
    if gpus < 1:
        raise ValueError(f"--gpus must be at least 1 at scale {scale.name}, not {gpus}")
    return replace(scale, resources=replace(scale.resources, workers=gpus, replicas=gpus))


def plan_table(trials: Sequence[Trial], results: Results) -> Table:
    """The expanded matrix: what each trial is, and whether it will run."""
    drawn = Table(box=box.SIMPLE)
    for heading in ("trial", "fingerprint", "K", "steps", "losses", "plan"):
        drawn.add_column(heading, no_wrap=heading != "losses")
    for trial in trials:
        run_ = results.find(trial.fingerprint)
        at = run_.checkpoints()[-1:] if run_ else []
        plan = "complete, reused" if run_ and run_.complete else f"resumes at step {at[0]}" if at else "runs"
        losses = ", ".join(f"{loss.weight:g} {loss.name}" for loss in trial.losses)
        soft_tokens = str(trial.translator.soft_tokens)
        drawn.add_row(trial.name, trial.fingerprint[:8], soft_tokens, str(trial.steps), losses, plan)
    return drawn


def launch(trials: Sequence[Trial], *, folder: SweepFolder, chosen: Scale, results: Results, stop_file: Path) -> dict[str, str]:
    """Run what has no result yet on a cluster, under the live table; why trials failed that left no directory."""
    from raybridge.cluster.session import cluster
    from raybridge.cluster.tuner import run_trials

    folder.write_plan(
        {"scale": chosen.name, "trials": [{"name": trial.name, "fingerprint": trial.fingerprint} for trial in trials]}
    )
    found = {trial.fingerprint: results.find(trial.fingerprint) for trial in trials}
    waiting = [trial for trial in trials if (run_ := found[trial.fingerprint]) is None or not run_.complete]
    if not waiting and baselines_there(trials, results):
        return {}
    with cluster(chosen.resources) as dashboard:
        console.print(f"dashboard {dashboard}")
        with watched(trials, results):
            return run_trials(
                waiting,
                judged=trials,
                results=results,
                folder=folder.tune_path,
                resources=chosen.resources,
                stop_file=stop_file,
            )


def baselines_there(trials: Sequence[Trial], results: Results) -> bool:
    """Whether every arm without a translator has been computed."""
    from raybridge.evaluation.setting import baseline_requests

    keys = [key for trial in trials for split in ("dev", "test") for _, key, _ in baseline_requests(trial, split)]
    return all(results.baseline(key) is not None for key in keys)


@contextmanager
def watched(trials: Sequence[Trial], results: Results) -> Iterator[None]:
    """A live table in a terminal, and a line a change in a log file, read from the results on disk."""
    ended = threading.Event()
    rows: list[Row] = []
    launched = time.time()

    def look() -> Table:
        now = [row_of(trial, results, since=launched) for trial in trials]
        if not console.is_terminal:
            for line in changes(rows, now):
                console.print(f"{time.strftime('%H:%M:%S')}  {line}", soft_wrap=True, highlight=False)
        rows[:] = now
        return table(now, width=console.width)

    def watch() -> None:
        if console.is_terminal:
            with Live(look(), console=console, refresh_per_second=1) as live:
                while not ended.wait(1.0):
                    live.update(look())
                live.update(look())
        else:
            while not ended.wait(1.0):
                look()
            look()

    thread = threading.Thread(target=watch, name="live table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def locked(folder: SweepFolder) -> Iterator[None]:
    """Hold the sweep: a second launch is refused while this process lives."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / "lock").open("a+", encoding="utf8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise ValueError(
                f"sweep {folder.name} is running already ({held.read().strip()}); wait for it or end it first"
            ) from None
        held.truncate(0)
        held.write(f"process {os.getpid()} on {socket.gethostname()}")
        held.flush()
        yield


@contextmanager
def stoppable(folder: SweepFolder, resume: str) -> Iterator[Path]:
    """Ctrl-C once asks every trial to checkpoint and end, through a file that their workers see; twice ends at once."""
    stop_file = folder.path / "stop"
    stop_file.unlink(missing_ok=True)

    def stop(signum: int, frame: object) -> None:
        if stop_file.exists():
            console.print(f"ended at once. To go on: {resume}", soft_wrap=True, highlight=False, markup=False)
            os._exit(130)
        stop_file.touch()
        console.print("stopping: each trial saves a checkpoint first (Ctrl-C again ends at once)")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stop_file
    finally:
        signal.signal(signal.SIGINT, before)


def why_without(trials: Sequence[Trial], results: Results, failed: Mapping[str, str]) -> dict[str, str]:
    """Why trials have no result, a sentence by name. failed: what `launch` returned."""
    runs = {trial: results.find(trial.fingerprint) for trial in trials}
    lacking = {trial: run_ for trial, run_ in runs.items() if run_ is None or not run_.complete}
    return {trial.name: failed.get(trial.fingerprint) or why_failed(run_, results) for trial, run_ in lacking.items()}


def fail_if_failed(why: Mapping[str, str]) -> None:
    """Say which trials have no result and why, and fail."""
    if why:
        raise RuntimeError("\n".join(f"trial {name} has no result: {sentence}" for name, sentence in why.items()))


def why_failed(run_: TrialRun | None, results: Results) -> str:
    """What a trial left to say of its failure; a full disk takes not even that."""
    if run_ and (why := run_.failure()):
        return why
    if shutil.disk_usage(results.root).free < ROOM:
        return f"the disk of {results.root} is full; what was complete is kept, and the same command goes on from there"
    logs = f"{run_.launch.log} and " if run_ and run_.launch.log.exists() else ""
    return f"it ended without saying why; see {logs}Ray's logs in /tmp/ray/session_latest/logs"


if __name__ == "__main__":
    typer.run(main)
