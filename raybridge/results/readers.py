"""A reader for each kind of file: what it holds is checked against the schema once, and what is wrong is one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.results.files import read_frame, read_json, read_lines
from raybridge.results.schema import EVAL_KEYS, FILES, File
from raybridge.results.schema.checking import check_record, check_table

COUNTED = {"nll": "nll_tokens", "reconstruction_nll": "reconstruction_tokens"}  # a sum, and of how many tokens
AGAIN = "; delete it and it is computed again"


def _file(path: str) -> File:
    return next(file for file in FILES if file.path == path)


EVALS, SAMPLES = _file("trials/*/evals.parquet"), _file("trials/*/samples/*/*/step_*.parquet")
CONDITIONING = _file("trials/*/samples/*/conditioning.parquet")
TRIAL, PROVENANCE, RESULT = (_file(f"trials/*/{name}.json") for name in ("trial", "provenance", "result"))
TIMING, TRAINED, FAILURE = (_file(f"trials/*/{name}.json") for name in ("timing", "trained", "failure"))
METRICS, EVALUATIONS = _file("trials/*/metrics.jsonl"), _file("evaluations.jsonl")
PLAN, TOLD, MACHINE = _file("sweeps/*/plan.json"), _file("trackers/*/*/told.json"), _file("machines/*.json")


def table(path: Path, file: File, *, without: Sequence[str] = ()) -> pd.DataFrame:
    """A table of a kind; the columns in `without` are not even read."""
    rows = read_frame(path, without=without)
    try:
        return check_table(rows, file, str(path), without=without)
    except ValueError as error:
        raise ValueError(f"{error}{AGAIN}") from None


def evals(path: Path) -> pd.DataFrame:
    """Evaluations: a row for each of its keys."""
    rows = table(path, EVALS)
    if (again := rows.duplicated(EVAL_KEYS)).any():
        row = rows[again].iloc[0]
        told = ", ".join(f"{key} {row[key]}" for key in EVAL_KEYS)
        raise ValueError(f"{path} has two rows of {told}{AGAIN}")
    return rows


def samples(path: Path, *, without: Sequence[str] = ()) -> pd.DataFrame:
    """Sample rows, of a trial, of a baseline or of a batch: each reading with its scores and its answers."""
    rows = table(path, SAMPLES, without=without)
    if not len(rows):
        raise ValueError(f"{path} holds no rows{AGAIN}")
    for name in map(str, rows):
        if name.startswith("score_") and (answers := f"answer_{name.removeprefix('score_')}") not in rows:
            raise ValueError(f"{path} has a column {name!r} and no {answers!r}: it is damaged{AGAIN}")
    for measure, count in COUNTED.items():
        if measure in rows and count not in rows:
            raise ValueError(f"{path} has a column {measure!r} and no {count!r}: it is damaged{AGAIN}")
    if (again := rows.duplicated(["problem", "arm"])).any():
        row = rows[again].iloc[0]
        raise ValueError(f"{path}: {row['problem']} was answered twice by {row['arm']}{AGAIN}")
    return rows


def record(path: Path, file: File) -> dict[str, Any]:
    """A JSON object of a kind."""
    return check_record(read_json(path), file, str(path))


def lines(path: Path, file: File) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines of a kind, none where there is no file."""
    return [check_record(row, file, f"{path}, line {number}") for number, row in enumerate(read_lines(path), start=1)]


def metrics(path: Path) -> list[dict[str, Any]]:
    """Logged steps."""
    return lines(path, METRICS)
