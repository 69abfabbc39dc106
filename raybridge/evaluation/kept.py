"""Evaluations as they are kept somewhere: with a trial, in a table of samples, in the directory of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.analysis.measures import score_columns
from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.evaluation.earlier.records import find_runs, read_run
from raybridge.results import TrialRun
from raybridge.results.files import read_frame
from raybridge.results.store import trials_at

Kept = tuple[dict[str, Any], pd.DataFrame]  # where it is from, and its sample rows


def evaluations_at(path: Path, on: str) -> list[Kept]:
    """Each evaluation of a trial, of those in a folder or below its `trials/`, of an earlier run, or of a table of samples.

    on: the benchmark by which an earlier run is graded.
    """
    if trials := trials_at(path):
        return [one for run in trials for one in of_trial(run)]
    if path.suffix == ".parquet" and path.is_file():
        return [of_table(path)]
    if path.is_dir():
        runs = [read_run(folder, load_evaluator(on)) for folder in find_runs([path])]
        return [({"of": run.name, "on": on, "step": one.step}, one.samples) for run in runs for one in run.evaluations]
    raise ValueError(f"{path} is no trial's directory, no table of samples (.parquet) and no directory of an earlier run")


def of_trial(run: TrialRun) -> list[Kept]:
    """Every evaluation that a trial has."""
    found = []
    for evaluator, split, step in run.sampled():
        samples = run.samples(evaluator, split, step)
        assert samples is not None
        found.append(({"of": run.path.name, "on": f"{evaluator}/{split}", "step": step}, samples))
    if not found:
        raise ValueError(f"{run.path} has no evaluations yet")
    return found


def of_table(path: Path) -> Kept:
    """One table of samples."""
    samples = read_frame(path)
    missing = {"arm", "problem", "completion"} - set(samples)
    if missing or not score_columns(samples):
        raise ValueError(f"{path} is no table of samples: it has no column {sorted(missing)[0] if missing else 'score_...'!r}")
    return {"of": path.stem, "on": "", "step": None}, samples
