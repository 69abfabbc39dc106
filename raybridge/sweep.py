"""`python -m raybridge.sweep FILE`: plan, train, evaluate, stop, resume."""

from __future__ import annotations

import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from raybridge.analysis.plan import NOT_KNOWN, estimate, plan_table, shared, unfinished
from raybridge.analysis.progress import Phase, Row, changes, phase_of, row_of, table
from raybridge.analysis.summary import write_summary
from raybridge.console import HELP, guarded, print_table, typed
from raybridge.results import Results, TrialRun
from raybridge.results.command_log import logged
from raybridge.results.sweep_folder import SMOKE, SweepFolder
from raybridge.trackers import LogTo, built, following

if TYPE_CHECKING:
    from raybridge.scales import Resources, Scale
    from raybridge.sweep_file import Sweep
    from raybridge.trial import Workload

app = typer.Typer(context_settings=HELP, add_completion=False)
console = Console(width=None if sys.stdout.isatty() else 140)  # a log file has no width of its own
unseen = Console(quiet=True)  # what a live table shows is in the log as lines
ROOM = 2**20  # bytes free, below which a disk counts as full
EVERY = 15.0  # seconds between two lines of a phase, in a log file
# torch and transformers take seconds to import: what needs them imports them, so that --help does not.


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="a file of sweeps/, such as sweeps/compression.py")],
    scale: Annotated[str | None, typer.Option(help="pocket, small or full; default: what this machine can carry")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="a few steps and problems of every trial, in a folder smoke/ of its own")
    ] = False,
    trials: Annotated[
        list[str] | None, typer.Option("--trials", help="only these: names or patterns ('2_*_16tok'); may be repeated")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs a trial: a training worker on each")] = None,
    gpus_per_model: Annotated[
        int | None, typer.Option(help="GPUs a worker and a replica, over which each model lies; default: 1")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="trials at once; default: as many as fit")] = None,
    states_budget: Annotated[
        float | None, typer.Option(min=0, help="GB of disk for states of sources; default: a quarter of what is free")
    ] = None,
    log_to: Annotated[list[LogTo] | None, typer.Option(help="show it there as well; once for each")] = None,
    results: Annotated[Path, typer.Option(help="where results are")] = Path("ray_results"),
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Run every trial of a sweep, or of those named, that has no result yet, and write their summary."""
    with logged(results / SMOKE if smoke else results, "sweep", console, unseen) as log, guarded(console, debug=debug):
        from raybridge.cluster.session import there
        from raybridge.scales import choose
        from raybridge.sweep_file import load

        sweep = load(file).only(trials or [])
        asked = dict(gpus=gpus, gpus_per_model=gpus_per_model, concurrent=concurrent)
        chosen, why = choose(there(), scale, **asked, states_budget=states_budget)
        say(why)
        log.note(f"{chosen.name}: {chosen.resources}")
        run(sweep, file, chosen, dry_run=dry_run, smoke=smoke, log_to=log_to or [], results=Results(results))


def run(sweep: Sweep, file: Path, chosen: Scale, *, dry_run: bool, smoke: bool, log_to: list[LogTo], results: Results) -> None:
    """The command, once it is known what it runs on. file: of the sweep, for refusals."""
    from raybridge.cluster.signals import stoppable
    from raybridge.sweep_file import distinct
    from raybridge.training.inspection import looked_at

    trials = sweep.trials(chosen)
    sweep.rehearse(trials)
    root = results.root
    if smoke:
        trials, results = [trial.smoke() for trial in trials], Results(root / SMOKE)
    console.print(f"sweep {sweep.name}: {sweep.question}", highlight=False, markup=False)
    trials, dark = looked_at(trials, device=chosen.resources.device, workers=chosen.resources.workers)
    say_plan(trials, results, dark)
    say_needs(trials, chosen.resources, results, dark)
    if dry_run:
        for sentence in dict.fromkeys(dark.values()):
            say(f"{NOT_KNOWN}: {sentence}")
        say(f"time: {estimate(trials, results, at_once=chosen.resources.concurrent_trials or len(trials))}")
        return
    refuse(dark)
    folder = results.sweep(sweep.name)
    resume = f"{typed('raybridge.sweep')} {shlex.join(sys.argv[1:])}"
    launched = time.time()
    trackers = [built(kind, results, sweep=sweep.name) for kind in dict.fromkeys(log_to)]
    with folder.locked(), stoppable(folder, resume, say=say), following(trackers, results, sweep=sweep.name, say=say) as told:
        told.follow(trials)
        failed = launch(trials, folder=folder, chosen=chosen, results=results)
        if sweep.follow_up:
            summed_up(sweep, trials, results, failed)  # first, for a follow_up may be wrong
        if not folder.stopped() and (further := sweep.further(trials, results)):
            console.print("what was found asks for more:")
            further, dark = looked_at(further, device=chosen.resources.device, workers=chosen.resources.workers)
            refuse(dark)
            say_plan(further, results)
            trials = distinct([*trials, *further], str(file))
            told.follow(trials)
            failed |= launch(trials, folder=folder, chosen=chosen, results=results)
        if folder.stopped():
            say(f"stopped; {saved(trials, results, failed, since=launched)}. To go on: {resume}")
            raise typer.Exit(130)
        text, why = summed_up(sweep, trials, results, failed)
        say(text)
        if trackers:
            from raybridge.plots.__main__ import page_of

            told.attach([folder.path / "EXPERIMENTS_SUMMARY.md", page_of(results)])
    fail_if_failed(why)
    among = [*([] if root == Path("ray_results") else ["--results", str(root)]), *(["--smoke"] if smoke else [])]
    say(f"results: {folder.path} (EXPERIMENTS_SUMMARY.md); figures: {shlex.join([*typed('raybridge.plots').split(), *among])}")


def summed_up(
    sweep: Sweep, trials: Sequence[Workload], results: Results, failed: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Write the summary of a sweep; its text, and why trials have no result. failed: what `launch` returned."""
    why = why_without(trials, results, failed)
    asked = {trial.fingerprint: trial.name for trial in trials}
    width = console.width if console.is_terminal else None
    return write_summary(asked, sweep=sweep.name, question=sweep.question, results=results, why=why, width=width), why


def say(text: str, *, on: Console | None = None) -> None:
    """Print text as it is; the terminal breaks its lines."""
    (on or console).print(text, soft_wrap=True, highlight=False, markup=False)


def say_plan(trials: Sequence[Workload], results: Results, dark: Mapping[str, str] | None = None) -> None:
    """Print what will run: a table, and below it what all of its trials have in common."""
    print_table(console, plan_table(trials, results, dark or {}))
    if common := ", ".join(f"{heading}: {text}" for heading, text in shared(trials).items()):
        say(f"all of them: {common}\n")


def say_needs(trials: Sequence[Workload], resources: Resources, results: Results, dark: Mapping[str, str]) -> None:
    """Print what the trials that will run take of the machine, as far as it is known. ValueError for one that cannot fit."""
    from raybridge.cluster.machine import CARD, card_seen
    from raybridge.training.inspection import needs_of

    known = [trial for trial in trials if trial.name not in dark and unfinished(trial, results.find(trial.fingerprint))]
    kept = results.kept_states(resources.states_budget)
    cards, seen = resources.gpus_per_model, card_seen() if resources.gpus_per_model else None
    size = (seen or CARD) if cards else None
    for line in needs_of(known, workers=resources.workers, card=size, cards=cards, kept=kept, results=results):
        say(line)
    if known and size is not None and seen is None:
        say(f"no GPU is seen here: one of 80 GB is assumed, of which processes find {size:.0f} GiB")


def refuse(dark: Mapping[str, str]) -> None:
    """Start nothing where the contents of a trial are not known."""
    for sentence in dark.values():
        raise ValueError(sentence)


def launch(trials: Sequence[Workload], *, folder: SweepFolder, chosen: Scale, results: Results) -> dict[str, str]:
    """Run what is unfinished on a cluster, under the live table; why trials failed that left no directory."""
    from raybridge.cluster.session import cluster
    from raybridge.cluster.signals import heed_sigterm
    from raybridge.cluster.tuner import run_trials
    from raybridge.training.inspection import baselines_there

    folder.write_plan(
        {
            "scale": chosen.name,
            "smoke": results.root.name == SMOKE,
            "trials": [{"name": trial.name, "fingerprint": trial.fingerprint} for trial in trials],
        }
    )
    found = {trial.fingerprint: results.find(trial.fingerprint) for trial in trials}
    waiting = [trial for trial in trials if unfinished(trial, found[trial.fingerprint])]
    if not waiting and baselines_there(trials, results):
        return {}
    with watched(trials, results) as tell:
        tell("starting Ray")
        models = {name for trial in waiting for name in trial.models}
        with cluster(chosen.resources, name=folder.name, models=tuple(models)) as dashboard:
            heed_sigterm()
            say(f"dashboard {dashboard}")
            for trial in waiting:
                if (run_ := found[trial.fingerprint]) and run_.launch.busy():
                    say(f"{trial.name} is run by another sweep: it is waited for")
            tell("starting replicas and training workers")
            return run_trials(waiting, judged=trials, results=results, folder=folder, resources=chosen.resources)


@contextmanager
def watched(trials: Sequence[Workload], results: Results) -> Iterator[Callable[[str], None]]:
    """A live table in a terminal, and a line a change in a log file, read from the results on disk.

    Yields a function that is told what the command does now: while no trial trains, that is shown with a clock.
    """
    ended = threading.Event()
    rows: list[Row] = []
    phases: list[Phase] = []
    launched = time.time()

    def look() -> Table:
        now = [row_of(trial, results, since=launched) for trial in trials]
        phase = phase_of(now, [results.find(trial.fingerprint) for trial in trials], phases, launched=launched)
        for line in [*changes(rows, now), *([phase.due(every=EVERY)] if phase else [])]:
            if line:
                say(f"{time.strftime('%H:%M:%S')}  {line}", on=unseen if console.is_terminal else console)
        rows[:] = now
        return table(now, width=console.width, phase=phase)

    def watch() -> None:
        with Live(look(), console=console, refresh_per_second=1) if console.is_terminal else nullcontext() as live:
            over = False
            while not over:
                over = ended.wait(1.0)
                now = look()
                if live:
                    live.update(now)

    thread = threading.Thread(target=watch, name="live table", daemon=True)
    thread.start()
    try:
        yield lambda doing: phases.append(Phase(doing=doing, since=time.time()))
    finally:
        ended.set()
        thread.join()


def saved(trials: Sequence[Workload], results: Results, failed: Mapping[str, str], *, since: float) -> str:
    """What is known of the checkpoints of trials that were asked to stop. failed: what `launch` returned; since: its start."""
    told = dict(failed)
    for trial in trials:
        if (run_ := results.find(trial.fingerprint)) and run_.launch.failed(since=since):
            told[trial.fingerprint] = str(run_.launch.why())
    if unsaved := "; ".join(f"{trial.name}: {told[trial.fingerprint]}" for trial in trials if trial.fingerprint in told):
        return f"not every trial could save a checkpoint ({unsaved})"
    if shutil.disk_usage(results.root).free < ROOM:
        return f"the disk of {results.root} is full, and a trial may have its last checkpoint but one"
    return "every trial has its checkpoint"


def why_without(trials: Sequence[Workload], results: Results, failed: Mapping[str, str]) -> dict[str, str]:
    """Why trials have no whole result, a sentence by name. failed: what `launch` returned."""
    runs = {trial: results.find(trial.fingerprint) for trial in trials}
    lacking = {trial: run_ for trial, run_ in runs.items() if unfinished(trial, run_)}
    return {trial.name: failed.get(trial.fingerprint) or why_failed(run_, results) for trial, run_ in lacking.items()}


def fail_if_failed(why: Mapping[str, str]) -> None:
    """Say which trials have no whole result and why, and fail."""
    if why:
        raise RuntimeError("\n".join(f"trial {name} has no result: {sentence}" for name, sentence in why.items()))


def why_failed(run_: TrialRun | None, results: Results) -> str:
    """What a trial left to say of its failure; a full disk takes not even that."""
    if run_ and (why := run_.launch.why()):
        return why
    if shutil.disk_usage(results.root).free < ROOM:
        return f"the disk of {results.root} is full; what was complete is kept, and the same command goes on from there"
    logs = f"{run_.launch.log} and " if run_ and run_.launch.log.exists() else ""
    return f"it ended without saying why; see {logs}Ray's logs in /tmp/ray/session_latest/logs"


if __name__ == "__main__":
    app()
