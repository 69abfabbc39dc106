"""python -m raybridge.plots: every figure and table that the results on disk can support.

A file of plots/ offers `table(runs) -> DataFrame` and `NEEDS`, the command that makes its data; and then either
`draw(figure, table)`, `height` (inches, or a function of the table) and `caption(table)`, or `columns(table)` and
`caption(table)` for a LaTeX table. Its docstring's first line is the title. It names no folder and writes nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from raybridge import HOUSE
from raybridge.analysis.configurations import against_first, band_of, bridged_on_test, costs, mean_gap, per_problem, transfer
from raybridge.analysis.measures import of_first_reading, over_seeds, stacked
from raybridge.analysis.runs import ATTENTION_BINS, Runs
from raybridge.console import guarded
from raybridge.errors import unknown
from raybridge.plots import latex
from raybridge.plots.latex import Column
from raybridge.plots.page import Drawn, report
from raybridge.plots.style import (
    ARMS,
    BLACK,
    COLUMN,
    CONTROLS,
    GREY,
    LOOKS,
    TEXT_LINE,
    arm_look,
    folded,
    legend,
    log_ticks,
    n_by_arm,
    n_of,
    pictures,
    points,
    seeds_of,
    words,
)
from raybridge.results import Results

__all__ = [
    "ARMS",
    "ATTENTION_BINS",
    "BLACK",
    "COLUMN",
    "CONTROLS",
    "GREY",
    "LOOKS",
    "TEXT_LINE",
    "Axes",
    "Column",
    "Figure",
    "Runs",
    "against_first",
    "arm_look",
    "band_of",
    "bridged_on_test",
    "costs",
    "folded",
    "legend",
    "log_ticks",
    "mean_gap",
    "n_by_arm",
    "n_of",
    "of_first_reading",
    "over_seeds",
    "per_problem",
    "points",
    "seeds_of",
    "stacked",
    "transfer",
    "words",
]

FOLDER = HOUSE / "plots"
FORMATS = ("pdf", "png")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One file of plots/: a figure if it draws, a LaTeX table if it has columns."""

    name: str
    title: str
    needs: str
    table: Callable[[Runs], pd.DataFrame]
    caption: Callable[[pd.DataFrame], str]
    draw: Callable[[Any, pd.DataFrame], None] | None
    height: Callable[[pd.DataFrame], float]
    columns: Callable[[pd.DataFrame], dict[str, Column]] | None


def load(path: Path) -> Plot:
    """Read a plot file, or the one of this name in plots/; says what it lacks."""
    if not path.is_file() and str(path.parent) in (".", FOLDER.name):
        path = FOLDER / f"{path.stem}.py"
    if path.suffix != ".py" or not path.is_file():
        raise unknown("plot", path.stem, [file.stem for file in plot_files()], where=str(path))
    spec = spec_from_file_location(f"plots.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in ("table", "caption", "NEEDS") if not hasattr(module, name)]
    if missing or hasattr(module, "draw") == hasattr(module, "columns"):
        lacks = ", ".join(missing) or "exactly one of draw and columns"
        raise ValueError(f"{path} lacks {lacks}; a plot file offers NEEDS, table, caption, and either draw or columns")
    height = getattr(module, "height", 2.2)
    return Plot(
        name=path.stem,
        title=(module.__doc__ or path.stem).strip().splitlines()[0].rstrip("."),
        needs=module.NEEDS,
        table=module.table,
        caption=module.caption,
        draw=getattr(module, "draw", None),
        height=height if callable(height) else lambda table: height,
        columns=getattr(module, "columns", None),
    )


def plot_files() -> list[Path]:
    """Every plot file, by name."""
    return sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A plot as it is written: its files by ending, and what the report needs of it."""

    plot: Plot
    caption: str
    files: dict[str, bytes]

    def write(self, runs: Runs) -> list[Path]:
        """Write the files; returns their paths."""
        folder = "figures" if self.plot.draw else "tables"
        return [runs.results.write(f"{folder}/{self.plot.name}.{kind}", content) for kind, content in self.files.items()]


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A plot that was not made, and why."""

    sentence: str
    failed: bool


def make(plot: Plot, runs: Runs, formats: Sequence[str]) -> Made | None:
    """Draw one figure, or set one table, with its data as CSV beside it; None where the results have no data for it."""
    table = plot.table(runs)
    if table.empty:
        return None
    caption = plot.caption(table) + left_out(runs)
    origin = origin_of(table, runs)
    if plot.columns:
        files = {"tex": latex.render(table, plot.columns(table), caption=caption, label=plot.name, origin=origin).encode()}
    else:
        about = {"Title": plot.title, "Subject": caption, "Keywords": f"{origin['commits']}; {origin['fingerprints']}"}
        draw = plot.draw
        assert draw is not None
        files = pictures(lambda page: draw(page, table), plot.height(table), caption, about=about, formats=formats)
    return Made(plot=plot, caption=caption, files=files | {"csv": as_csv(table)})


def left_out(runs: Runs) -> str:
    """A sentence for every caption when results on disk could not be read."""
    count = len(runs.left_out)
    return f" Left out: {count} result{'s' if count > 1 else ''} on disk that cannot be read." if count else ""


def as_csv(table: pd.DataFrame) -> bytes:
    """A table as CSV, every number with all its digits."""
    content = io.BytesIO()
    rows = pa.Table.from_pandas(table, preserve_index=False)
    pa.csv.write_csv(rows, content, pa.csv.WriteOptions(quoting_style="needed"))  # ten times as fast as pandas
    return content.getvalue()


def origin_of(table: pd.DataFrame, runs: Runs) -> dict[str, str]:
    """The trials that a table was made from and the commits that they ran at."""
    named = table["fingerprint"].dropna() if "fingerprint" in table else runs.trials["fingerprint"]
    fingerprints = sorted({one for several in named for one in several.split()})
    commits = set()
    for fingerprint in fingerprints:
        commit = runs.provenance(fingerprint).get("commit") or {}
        commits.add(f"{commit.get('id') or 'unknown'}{' (with changes)' if commit.get('dirty') else ''}")
    return {"fingerprints": " ".join(fingerprints), "commits": "commit " + ", ".join(sorted(commits))}


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
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("ray_results"),
    formats: Annotated[list[str], typer.Option("--format", help="pdf, png or both.")] = list(FORMATS),  # noqa: B006
    page: Annotated[bool, typer.Option("--report", help="Also write report.html: everything in one file.")] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> None:
    """Draw every figure and table that the results on disk can support."""
    console = Console(soft_wrap=True, highlight=False)
    with guarded(Console(stderr=True), debug=debug):
        kinds = chosen_formats([*formats, *(["png"] if page else [])])  # the report shows the PNGs
        if not results.is_dir():
            raise ValueError(f"there is no folder {results}; python -m raybridge.sweep sweeps/compression.py makes one")
        runs = Runs(Results(results), sweep)
        plots = [load(path) for path in files or plot_files()]
        console.print(f"{len(runs.runs)} trials in {results}" + (f", of sweep {sweep}" if sweep else ""))
    for sentence in runs.left_out.values():
        console.print(f"left out: {sentence}", style="red", markup=False)
    tried = [made_or_said(plot, runs, kinds, console, debug=debug) for plot in plots]
    if page:
        with guarded(Console(stderr=True), debug=debug):
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
    console.print(f"{plot.name}: {why}", style="red" if error else "", markup=False)
    return Absent(sentence=f"{plot.name}: {why}", failed=error is not None)


def write_report(runs: Runs, tried: Sequence[Made | Absent]) -> Path:
    """Write report.html with every figure that was drawn."""
    made = [one for one in tried if isinstance(one, Made) and one.plot.draw]
    figures = [Drawn(title=one.plot.title, png=one.files["png"], caption=one.caption) for one in made]
    missing = [one.sentence for one in tried if isinstance(one, Absent)]
    return runs.results.write("report.html", report(runs, figures, missing).encode())
