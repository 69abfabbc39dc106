"""`python -m raybridge.plots`: every figure and table that the results on disk can support."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raybridge.analysis.asked import only
from raybridge.analysis.runs import Runs
from raybridge.console import HELP, guarded, printable, tracked
from raybridge.errors import unknown
from raybridge.plots.figures import Made, Plot, load, make, plot_files
from raybridge.plots.page import Drawn, report
from raybridge.results import Results
from raybridge.results.command_log import logged
from raybridge.results.sweep_folder import SMOKE

FORMATS = ("pdf", "png")

app = typer.Typer(context_settings=HELP, add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A plot that was not made, and why."""

    sentence: str
    failed: bool


def chosen_formats(formats: Iterable[str]) -> list[str]:
    """The formats asked for, all of which must be known."""
    for kind in formats:
        if kind not in FORMATS:
            raise unknown("format", kind, FORMATS)
    return list(dict.fromkeys(formats))


@app.command()
def main(
    files: Annotated[list[Path] | None, typer.Argument(help="Files of plots/; all of them if none is named.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only the trials of this sweep.")] = None,
    trials: Annotated[
        list[str] | None, typer.Option("--trials", help="Only these: names, patterns ('2_*'), fingerprints; may be repeated.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("ray_results"),
    smoke: Annotated[bool, typer.Option("--smoke", help="Of the smoke runs, which are drawn only when asked for.")] = False,
    formats: Annotated[list[str], typer.Option("--format", help="pdf, png or both.")] = list(FORMATS),  # noqa: B006
    page: Annotated[bool, typer.Option("--report", help="Also write report.html: everything in one file.")] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> None:
    """Draw every figure and table that the results on disk can support."""
    console, errors = Console(soft_wrap=True, highlight=False), Console(stderr=True)
    results = results / SMOKE if smoke else results
    with logged(results, "plots", console, errors), guarded(errors, debug=debug):
        kinds = chosen_formats([*formats, *(["png"] if page else [])])  # the report shows the PNGs
        if not results.is_dir():
            made = f"python -m raybridge.sweep sweeps/compression.py{' --smoke' if smoke else ''}"
            raise ValueError(f"there is no folder {results}; {made} makes one")
        runs = Runs(Results(results), sweep)
        runs = only(runs, trials) if trials else runs
        plots = [load(path) for path in files or plot_files()]
        said = (f", of sweep {sweep}" if sweep else "") + (", chosen by hand" if trials else "")
        console.print(f"{len(runs.runs)} trials in {results}{said}", markup=False)
        for sentence in runs.left_out.values():
            console.print(f"left out: {printable(sentence)}", style="red", markup=False)
        tried = [made_or_said(plot, runs, kinds, console, debug=debug) for plot in tracked(console, "drawing", plots)]
        if page:
            with console.status("writing the report"):
                console.print(f"report: {write_report(runs, tried)}", markup=False)
        if runs.left_out or any(isinstance(one, Absent) and one.failed for one in tried):
            raise typer.Exit(1)


def made_or_said(plot: Plot, runs: Runs, kinds: Sequence[str], console: Console, *, debug: bool) -> Made | Absent:
    """Make one plot, or say why not. One that fails must not keep the others from being drawn."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(make, plot, runs, kinds)
    error = future.exception()
    if error is not None and debug:
        raise error
    made = None if error else future.result()
    if made is not None:
        console.print(f"{plot.name}: {', '.join(map(str, made.write(runs)))}", markup=False)
        return made
    why = f"no data; made by: {plot.needs}"
    if (sweep := Path(plot.needs.split()[-1]).stem) in runs.plans:
        why = f"no data: sweep {sweep} was launched and has no results for it, or nothing to compare"
    if error is not None:
        why = f"failed: {error if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'}"
    console.print(f"{plot.name}: {printable(why)}", style="red" if error else "", markup=False)
    return Absent(sentence=f"{plot.name}: {why}", failed=error is not None)


def page_of(results: Results) -> Path:
    """Draw everything and write report.html, as `--report` does, without a word; its path."""
    runs, quiet = Runs(results), Console(quiet=True)
    return write_report(runs, [made_or_said(load(path), runs, list(FORMATS), quiet, debug=False) for path in plot_files()])


def write_report(runs: Runs, tried: Sequence[Made | Absent]) -> Path:
    """Write report.html with every figure that was drawn."""
    made = [one for one in tried if isinstance(one, Made) and one.plot.draw]
    figures = [Drawn(title=one.plot.title, png=one.files["png"], caption=one.caption) for one in made]
    missing = [one.sentence for one in tried if isinstance(one, Absent)]
    return runs.results.write("report.html", report(runs, figures, missing).encode(errors="replace"))


if __name__ == "__main__":
    app()
