"""`python -m raybridge.sweep FILE`: plan, train, evaluate, stop, resume."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
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
from raybridge.data import UnreachableError
from raybridge.errors import unknown
from raybridge.evaluation.setting import frozen_arms
from raybridge.models import names
from raybridge.results import Results, TrialRun
from raybridge.results.find import by_config, why_anew
from raybridge.results.sweep_folder import SMOKE, SweepFolder
from raybridge.scales import SCALES, Resources, Scale
from raybridge.training.worker import engine_of
from raybridge.trial import Workload

console = Console(width=None if sys.stdout.isatty() else 140)  # a log file has no width of its own
ANEW = "runs: "  # and why, where a trial of the same config is there
NOT_KNOWN = "not known here"
ROOM = 2**20  # bytes free, below which a disk counts as full


def main(
    file: Annotated[Path, typer.Argument(help="a file of sweeps/, such as sweeps/compression.py")],
    scale: Annotated[str | None, typer.Option(help="pocket, small or full; default: what this machine can carry")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="a few steps and problems of every trial, in a folder smoke/ of its own")
    ] = False,
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
    sweep.rehearse(trials)
    if smoke:
        trials, results = [trial.smoke() for trial in trials], Results(results.root / SMOKE)
    console.print(f"sweep {sweep.name}: {sweep.question}", highlight=False, markup=False)
    trials, dark = looked_at(trials, chosen.resources)
    console.print(plan_table(trials, results, dark))
    if dry_run:
        for sentence in dict.fromkeys(dark.values()):
            console.print(f"{NOT_KNOWN}: {sentence}", soft_wrap=True, highlight=False, markup=False)
        return
    refuse(dark)
    folder = results.sweep(sweep.name)
    resume = f"python -m raybridge.sweep {shlex.join(sys.argv[1:])}"
    with folder.locked(), stoppable(folder, resume):
        failed = launch(trials, folder=folder, chosen=chosen, results=results)
        if sweep.follow_up:
            summed_up(sweep, trials, results, failed)  # first, for a follow_up may be wrong
        if not folder.stopped() and (further := sweep.further(trials, results)):
            console.print("what was found asks for more:")
            further, dark = looked_at(further, chosen.resources)
            refuse(dark)
            console.print(plan_table(further, results))
            trials = sweep_file.distinct([*trials, *further], str(file))
            failed |= launch(trials, folder=folder, chosen=chosen, results=results)
        if folder.stopped():
            console.print(
                f"stopped; every trial has its checkpoint. To go on: {resume}", soft_wrap=True, highlight=False, markup=False
            )
            raise typer.Exit(130)
    text, why = summed_up(sweep, trials, results, failed)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    fail_if_failed(why)


def summed_up(
    sweep: sweep_file.Sweep, trials: Sequence[Workload], results: Results, failed: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Write the summary of a sweep; its text, and why trials have no result. failed: what `launch` returned."""
    why = why_without(trials, results, failed)
    asked = {trial.fingerprint: trial.name for trial in trials}
    return write_summary(asked, sweep=sweep.name, question=sweep.question, results=results, why=why), why


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


def looked_at(trials: Sequence[Workload], resources: Resources) -> tuple[list[Workload], dict[str, str]]:
    """The trials with the contents of what they read; and by name why those of some cannot be known on this machine.

    ValueError for what can be seen to fail.
    """
    found, dark = [], {}
    for trial in trials:
        engine = engine_of(trial)
        try:
            sealed = engine.sealed(trial, device=resources.device)  # says at once that the hub cannot be reached
            for name in trial.models:
                names.check(name)
            engine.check(trial, workers=resources.workers)
            found.append(sealed)
        except UnreachableError as error:
            found.append(trial)
            dark[trial.name] = str(error)
    return found, dark


def refuse(dark: Mapping[str, str]) -> None:
    """Start nothing where the contents of a trial are not known."""
    for sentence in dark.values():
        raise ValueError(sentence)


def plan_table(trials: Sequence[Workload], results: Results, dark: Mapping[str, str] = MappingProxyType({})) -> Table:
    """The expanded matrix: what each trial is, in words of its own, and whether it will run. dark: of `looked_at`."""
    rows = [trial.planned() for trial in trials]
    own = dict.fromkeys(heading for row in rows for heading in row)
    kept = by_config(results.trials(broken={}))
    plans = [NOT_KNOWN if trial.name in dark else plan_of(trial, results, kept) for trial in trials]
    drawn = Table(box=box.SIMPLE)
    for heading in ("trial", "fingerprint", *own, "plan"):
        explained = heading == "plan" and any(plan.startswith(ANEW) for plan in plans)
        drawn.add_column(heading, no_wrap=heading not in own and not explained)
    for trial, row, plan in zip(trials, rows, plans, strict=True):
        shown = "-" if trial.name in dark else trial.fingerprint[:8]
        drawn.add_row(trial.name, shown, *(row.get(heading, "-") for heading in own), plan)
    return drawn


def plan_of(trial: Workload, results: Results, kept: Mapping[str, Sequence[TrialRun]]) -> str:
    """What will become of a trial; where one of the same config is there and cannot stand for it, why. kept: `by_config`."""
    run_ = results.find(trial.fingerprint)
    if run_ and run_.complete:
        return "complete, reused"
    if run_ and (steps := run_.checkpoints()):
        return f"resumes at step {steps[-1]}"
    why = [] if run_ else why_anew(trial.resolved(), kept)
    return f"{ANEW}{'; '.join(why)}" if why else "runs"


def launch(trials: Sequence[Workload], *, folder: SweepFolder, chosen: Scale, results: Results) -> dict[str, str]:
    """Run what has no result yet on a cluster, under the live table; why trials failed that left no directory."""
    from raybridge.cluster.session import cluster
    from raybridge.cluster.tuner import run_trials

    folder.write_plan(
        {
            "scale": chosen.name,
            "smoke": results.root.name == SMOKE,
            "trials": [{"name": trial.name, "fingerprint": trial.fingerprint} for trial in trials],
        }
    )
    found = {trial.fingerprint: results.find(trial.fingerprint) for trial in trials}
    waiting = [trial for trial in trials if (run_ := found[trial.fingerprint]) is None or not run_.complete]
    if not waiting and baselines_there(trials, results):
        return {}
    with cluster(chosen.resources) as dashboard:
        console.print(f"dashboard {dashboard}")
        for trial in waiting:
            if (run_ := found[trial.fingerprint]) and run_.launch.busy():
                console.print(f"{trial.name} is run by another sweep: it is waited for", soft_wrap=True, highlight=False)
        with watched(trials, results):
            return run_trials(waiting, judged=trials, results=results, folder=folder, resources=chosen.resources)


def baselines_there(trials: Sequence[Workload], results: Results) -> bool:
    """Whether every arm without a translator has been computed."""
    settings = [setting for trial in trials for setting in engine_of(trial).settings(trial)]
    return all(results.baseline(one.key(arm)) is not None for one in settings for arm in frozen_arms(one.split))


@contextmanager
def watched(trials: Sequence[Workload], results: Results) -> Iterator[None]:
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
def stoppable(folder: SweepFolder, resume: str) -> Iterator[None]:
    """Ctrl-C once asks every trial to checkpoint and end, through the folder that its workers see; twice ends at once."""
    folder.go_on()

    def stop(signum: int, frame: object) -> None:
        if folder.stopped():
            console.print(f"ended at once. To go on: {resume}", soft_wrap=True, highlight=False, markup=False)
            os._exit(130)
        folder.stop()
        console.print("stopping: each trial saves a checkpoint first (Ctrl-C again ends at once)")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def why_without(trials: Sequence[Workload], results: Results, failed: Mapping[str, str]) -> dict[str, str]:
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
