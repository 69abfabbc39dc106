"""A plot file on made-up results, and the command that draws: what the tests of figures share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from raybridge import HOUSE
from raybridge.plots import ATTENTION_BINS, Runs
from raybridge.plots.__main__ import app
from raybridge.plots.figures import Plot, load, make
from raybridge.results import TrialRun
from raybridge.results.files import write_frame


def table_of(name: str, runs: Runs) -> pd.DataFrame:
    return load(HOUSE / "plots" / f"{name}.py").table(runs)


def made(plot: Plot, runs: Runs) -> dict[str, bytes]:
    done = make(plot, runs, ["pdf"])
    assert done is not None
    return done.files


def command(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def conditioned(run: TrialRun, queries: int) -> None:
    """Attention that is even but for the first query, which looks at the first part alone; two directions; cosines."""
    even = np.full((queries, ATTENTION_BINS), 1 / ATTENTION_BINS)
    even[0] = np.eye(ATTENTION_BINS)[0]
    values = {"attention": even.ravel(), "singular_value": [2.0, 2.0], "nearest": [0.5] * queries}
    values |= {"nearest_random": [0.1] * queries}
    rows = [
        {"kind": kind, "index": index, "value": float(value), "n": 12}
        for kind, found in values.items()
        for index, value in enumerate(found)
    ]
    write_frame(run.path / "samples/pocket/conditioning.parquet", pd.DataFrame(rows))
