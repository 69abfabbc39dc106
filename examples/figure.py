"""A figure as an object, from results on disk: python examples/figure.py [ray_results [training_curves]]"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from raybridge.plots import COLUMN, Runs, load
from raybridge.results import Results


def figure_of(results: Path, name: str) -> Figure:
    """What a file of plots/ draws from these results, for a notebook or another layout."""
    plot = load(Path(name))
    if plot.draw is None:
        raise ValueError(f"{name} is a table: plot.table(runs) is its data frame")
    table = plot.table(Runs(Results(results)))
    if table.empty:
        raise ValueError(f"{results} has no data for {name}; {plot.needs} makes them")
    figure = Figure(figsize=(COLUMN, plot.height(table)), layout="constrained")
    plot.draw(figure, table)
    return figure


if __name__ == "__main__":
    results, name = [*sys.argv[1:], *("ray_results", "training_curves")[len(sys.argv) - 1 :]]
    figure_of(Path(results), name).savefig(f"{name}.svg")
