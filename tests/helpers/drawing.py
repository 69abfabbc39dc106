"""A plot file on made-up results, and the command that draws: what the tests of figures share."""

from __future__ import annotations

import pandas as pd
from typer.testing import CliRunner

from raybridge import HOUSE
from raybridge.plots import Runs
from raybridge.plots.__main__ import app
from raybridge.plots.figures import Plot, load, make
from raybridge.results import Results


def table_of(name: str, runs: Runs) -> pd.DataFrame:
    return load(HOUSE / "plots" / f"{name}.py").table(runs)


def made(plot: Plot, results: Results) -> dict[str, bytes]:
    done = make(plot, Runs(results), ["pdf"])
    assert done is not None
    return done.files


def command(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})
