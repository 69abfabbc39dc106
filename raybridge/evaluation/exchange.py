"""Commands by which results leave and come in: a trial's bundle written and verified, earlier runs and bundles imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raybridge.analysis import samples
from raybridge.analysis.compare import findings, sentence
from raybridge.console import DEBUG, FAILURE, RESULTS, guarded, print_table, printable, tracked
from raybridge.results import Results
from raybridge.results.command_log import logged
from raybridge.results.find import find_trial

console = Console(width=None if sys.stdout.isatty() else 160)  # a log file has no width of its own
# torch, transformers and the benchmarks take seconds to import: the commands that need them import them.


def export(
    trial: Annotated[str, typer.Argument(help="its directory, name or fingerprint")],
    to: Annotated[Path, typer.Option("--to", help="the folder of the bundle, new or empty")],
    without_weights: Annotated[bool, typer.Option("--without-weights", help="leave the translator's weights out")] = False,
    without_frames: Annotated[
        bool, typer.Option("--without-frames", help="leave the texts around the questions out, and with them the exemplars")
    ] = False,
    results: RESULTS = Path("ray_results"),
    debug: DEBUG = False,
) -> None:
    """Write what a trial came to as a bundle that others can verify: rows of every arm, tables, config, weights, frames."""
    with logged(results, "export", console), guarded(console, debug=debug):
        from raybridge.evaluation.bundle.export import export as write

        run = find_trial(trial, Results(results))
        for one in write(run, to, weights=not without_weights, frames=not without_frames):
            _say(f"left out: {one}")
        size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
        _say(f"{run.path.name} is in {to} ({size / 1e6:,.1f} MB); python -m raybridge.evaluate verify {to}")


def verify(
    bundle: Annotated[Path, typer.Argument(help="the folder of a bundle")],
    problems: Annotated[int, typer.Option(min=0, help="of each benchmark that are answered again, drawn by seed 0")] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")] = None,
    debug: DEBUG = False,
) -> None:
    """Check a bundle: its files, all statistics from its rows, and a sample of the rows where models and benchmark are here."""
    with guarded(console, debug=debug):
        from transformers.utils import logging

        from raybridge.evaluation.bundle.verify import verify as check
        from raybridge.evaluation.identity import device_here

        logging.disable_progress_bar()
        found = check(bundle, problems=problems, device=device or device_here())
        for said in found.checked:
            _say(f"checked: {said}")
        for said in found.unchecked:
            _say(f"not checked: {said}")
        for said in found.differs:
            _say(f"differs: {said}")
        _say(f"{len(found.checked)} checked, {len(found.unchecked)} not checked, {len(found.differs)} differ")
        if found.differs:
            raise typer.Exit(FAILURE)


def import_runs(
    folders: Annotated[list[Path], typer.Argument(help="bundles, directories of earlier runs, or directories that hold some")],
    on: Annotated[str, typer.Option("--on", help="of earlier runs, the benchmark: a file of evaluators/")] = "gsm8k",
    results: RESULTS = Path("ray_results"),
    debug: DEBUG = False,
) -> None:
    """Take bundles and earlier runs (eval_samples_step_*.jsonl, train.log) into the results; say what the statistics say."""
    with logged(results, "import-runs", console), guarded(console, debug=debug):
        from raybridge.evaluation.benchmarks import load_evaluator, questions_of
        from raybridge.evaluation.earlier.bundles import read_bundle, write_imported
        from raybridge.evaluation.earlier.records import find_runs, read_run
        from raybridge.evaluation.earlier.write import write_run
        from raybridge.results.bundle import is_bundle

        evaluator = load_evaluator(on)
        bundles = [read_bundle(folder) for folder in folders if is_bundle(folder)]
        earlier = [folder for folder in folders if not is_bundle(folder)]
        official = questions_of(evaluator) if earlier else {}
        found = tracked(console, "reading", find_runs(earlier))
        recorded = [read_run(folder, evaluator, official=official) for folder in found]
        for bundle in bundles:  # only now, when all of them are read and whole
            run = write_imported(bundle, Results(results))
            _say(f"{run.path.name} (imported) has the rows of {len(bundle.rows)} evaluations")
        for one in recorded:
            run = write_run(one, Results(results), evaluator)
            rows = [row for part in one.evaluations for row in samples.counted(part.samples, {"step": part.label})]
            first, last = evaluator.readings[0], rows[-1]["step"]
            told = [row for row in rows if row["reading"] == first and (row["arm"] == one.bridge or row["step"] == last)]
            print_table(console, samples.table_of(told, f"{run.path.name} (imported), {on} test, {first} reading"))
            for note in one.notes:
                _say(f"note: {note}")
            told_of = findings(run, on, one.bridge)
            if told_of[0].b.arm != one.bridge:
                console.print("the last evaluation is the peak: there is no fall to test")
            for compared in told_of:
                console.print(sentence(compared), soft_wrap=True, highlight=False, markup=False)


def _say(text: str) -> None:
    console.print(printable(text), soft_wrap=True, highlight=False, markup=False)
