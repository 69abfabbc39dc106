"""python -m raybridge.plots: every figure and table that the results on disk can support.

A file of plots/ offers `table(runs) -> DataFrame` and `NEEDS`, the command that makes its data; and then either
`draw(figure, table)`, `height` (inches, or a function of the table) and `caption(table)`, or `columns(table)` and
`caption(table)` for a LaTeX table. Its docstring's first line is the title. It names no folder and writes nothing.
"""

from __future__ import annotations

import io
import textwrap
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
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from raybridge import latex
from raybridge.answers import of_first_reading, over_seeds, stacked
from raybridge.command import guarded
from raybridge.errors import unknown
from raybridge.findings import against_first, band_of, bridged_on_test, costs, per_problem, transfer
from raybridge.latex import Column
from raybridge.report import Drawn, report
from raybridge.results import Results
from raybridge.runs import Runs
from raybridge.style import ARMS, BLACK, COLUMN, CONTROLS, GREY, LOOKS, RC, arm_look, n_of, points, seeds_of, words

__all__ = [
    "ARMS",
    "BLACK",
    "COLUMN",
    "CONTROLS",
    "GREY",
    "LOOKS",
    "Axes",
    "Column",
    "Figure",
    "Runs",
    "against_first",
    "arm_look",
    "band_of",
    "bridged_on_test",
    "costs",
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

FOLDER = Path(__file__).parents[1] / "plots"
FORMATS = ("pdf", "png")
CAPTION_SIZE, CAPTION_CHARACTERS, CAPTION_LINE = 6, 72, 0.115  # points, characters a line, inches a line

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
    """Read a plot file; says what it lacks."""
    if path.suffix != ".py" or not path.is_file():
        raise unknown("plot file", path, [str(file) for file in plot_files()])
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


def make(plot: Plot, runs: Runs, formats: Sequence[str]) -> list[Path]:
    """Draw one figure, or write one table, with its data as CSV beside it; nothing where the results have no data for it."""
    table = plot.table(runs)
    if table.empty:
        return []
    caption = plot.caption(table)
    origin = origin_of(table, runs)
    folder = "figures" if plot.draw else "tables"
    if plot.columns:
        files = {"tex": latex.render(table, plot.columns(table), caption=caption, label=plot.name, origin=origin).encode()}
    else:
        files = pictures(plot, table, caption, origin, formats)
    files["csv"] = as_csv(table)
    return [runs.results.write(f"{folder}/{plot.name}.{kind}", content) for kind, content in files.items()]


def as_csv(table: pd.DataFrame) -> bytes:
    """A table as CSV, every number with all its digits."""
    content = io.BytesIO()
    rows = pa.Table.from_pandas(table, preserve_index=False)
    pa.csv.write_csv(rows, content, pa.csv.WriteOptions(quoting_style="needed"))  # ten times as fast as pandas
    return content.getvalue()


def pictures(plot: Plot, table: pd.DataFrame, caption: str, origin: dict[str, str], formats: Sequence[str]) -> dict[str, bytes]:
    """The figure as files, by format. The same table gives the same bytes: no date, no random names."""
    assert plot.draw is not None
    lines = textwrap.wrap(caption, CAPTION_CHARACTERS)
    heights = [plot.height(table), CAPTION_LINE * len(lines) + 0.08]
    with rc_context(RC):
        page = Figure(figsize=(COLUMN, sum(heights)))
        plot.draw(page, table)
        lay_out(page, below=heights[1] / sum(heights))
        page.text(0.02, (heights[1] - 0.04) / sum(heights), "\n".join(lines), va="top", size=CAPTION_SIZE, linespacing=1.25)
        about = {"Title": plot.title, "Subject": caption, "Keywords": f"{origin['commits']}; {origin['fingerprints']}"}
        by_format: dict[str, dict[str, str | None]] = {
            "pdf": {"Creator": "raybridge", "CreationDate": None},
            "png": {"Software": "raybridge"},
        }
        files = {}
        for kind in formats:
            content = io.BytesIO()
            page.savefig(content, format=kind, metadata={**about, **by_format[kind]})
            files[kind] = content.getvalue()
    return files


def lay_out(page: Figure, *, below: float) -> None:
    """Place the axes, leaving a share of the page below them. The solver's last digits vary; the file's must not."""
    page.set_layout_engine("constrained", rect=(0, below, 1, 1 - below))
    page.draw_without_rendering()
    page.set_layout_engine("none")
    for ax in page.axes:
        left, bottom, width, height = (round(edge, 5) for edge in ax.get_position().bounds)
        ax.set_position((left, bottom, width, height))


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
        kinds = chosen_formats(formats)
        if not results.is_dir():
            raise ValueError(f"there is no folder {results}; python -m raybridge.sweep sweeps/compression.py makes one")
        runs = Runs(Results(results), sweep)
        plots = [load(path) for path in files or plot_files()]
        console.print(f"{len(runs.runs)} trials in {results}" + (f", of sweep {sweep}" if sweep else ""))
    whole = [plot for plot in plots if drawn(plot, runs, kinds, console, debug=debug)]
    if page:
        with guarded(Console(stderr=True), debug=debug):
            console.print(f"report: {write_report(runs, whole)}", markup=False)
    if len(whole) < len(plots):
        raise typer.Exit(1)


def drawn(plot: Plot, runs: Runs, kinds: Sequence[str], console: Console, *, debug: bool) -> bool:
    """Make one plot and say what came of it. One that fails must not keep the others from being drawn."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        made = pool.submit(make, plot, runs, kinds)
    error = made.exception()
    if error is not None:
        if debug:
            raise error
        console.print(f"{plot.name}: failed: {type(error).__name__}: {error}", style="red", markup=False)
    elif not made.result():
        console.print(f"{plot.name}: no data; made by: {plot.needs}", markup=False)
    else:
        console.print(f"{plot.name}: {', '.join(map(str, made.result()))}", markup=False)
    return error is None


def write_report(runs: Runs, plots: Sequence[Plot]) -> Path:
    """Write report.html with every figure that was drawn."""
    figures, missing = [], []
    for plot in plots:
        table = plot.table(runs)
        if table.empty:
            missing.append(f"{plot.name}: made by {plot.needs}")
        elif plot.draw:
            caption = plot.caption(table)
            png = pictures(plot, table, caption, origin_of(table, runs), ["png"])["png"]
            figures.append(Drawn(title=plot.title, png=png, caption=caption))
    return runs.results.write("report.html", report(runs, figures, missing).encode())


if __name__ == "__main__":
    from raybridge.plots import app as command  # the module that plot files import, not a second copy of it

    command()
