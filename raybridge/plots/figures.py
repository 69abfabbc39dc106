"""Files of plots/: loaded, and made from results.

Each offers `table(runs) -> DataFrame` and `NEEDS`, the command that makes its data; and then either `draw(figure, table)`,
`height` (inches, or a function of the table) and `caption(table)`, or `columns(table)` and `caption(table)` for a LaTeX table.
Its docstring's first line is the title. It names no folder and writes nothing.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from raybridge import HOUSE, module_of, registered
from raybridge.analysis.runs import Runs
from raybridge.console import one_line
from raybridge.errors import unknown
from raybridge.plots import latex
from raybridge.plots.captions import WIDTH
from raybridge.plots.latex import Column
from raybridge.plots.style import pictures

FOLDER = HOUSE / "plots"
SMOKE = " Smoke run: a few steps and problems of each trial; it shows that everything runs, no more."


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
    module: Any = module_of(path, FOLDER.name)
    with registered(module):
        module.__loader__.exec_module(module)
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


def make(plot: Plot, runs: Runs, formats: Sequence[str]) -> Made | None:
    """Draw one figure with its caption beside it, or set one table, and its data as CSV; None where there are no data."""
    table = plot.table(runs)
    if table.empty:
        return None
    caption = one_line(plot.caption(table) + chosen(runs) + left_out(runs) + (SMOKE if runs.smoke else ""))
    origin = origin_of(table, runs)
    if plot.columns:
        files = {"tex": latex.render(table, plot.columns(table), caption=caption, label=plot.name, origin=origin).encode()}
    else:
        about = {"Title": plot.title, "Subject": caption, "Keywords": f"{origin['commits']}; {origin['fingerprints']}"}
        draw = plot.draw
        assert draw is not None
        files = pictures(lambda page: draw(page, table), plot.height(table), about=about, formats=formats)
        files["txt"] = f"{textwrap.fill(caption, WIDTH, break_on_hyphens=False)}\n".encode()
    return Made(plot=plot, caption=caption, files=files | {"csv": as_csv(table)})


def chosen(runs: Runs) -> str:
    """A sentence for every caption when not all trials were asked for."""
    return f" Of the trials, {len(runs.runs)} chosen by hand." if runs.chosen is not None else ""


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
    told = {"fingerprints": " ".join(fingerprints), "commits": "commit " + ", ".join(sorted(commits))}
    return {what: one_line(text) for what, text in told.items()}
