"""Evaluations for a terminal: where they are read from, how they are counted, examples, tables."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from raybridge.data import Evaluator, data_folder
from raybridge.errors import unknown
from raybridge.evaluation.earlier.records import find_runs, read_run
from raybridge.results import Results
from raybridge.results.files import read_frame
from raybridge.results.find import find_trial
from raybridge.statistics import wilson


def benchmarks() -> list[str]:
    """The names of the files of evaluators/."""
    package = importlib.util.find_spec("evaluators")
    assert package is not None
    return [module.name for module in pkgutil.iter_modules(package.submodule_search_locations)]


def check_benchmark(name: str, also: Iterable[str] = ()) -> None:
    """Refuse a name that no file of evaluators/ has, nor `also`, with its nearest."""
    valid = sorted({*benchmarks(), *also})
    if name not in valid:
        raise unknown("benchmark", name, valid, "--on")


def load_evaluator(name: str) -> Evaluator:
    """The evaluator that a file of evaluators/ offers, with its default options."""
    check_benchmark(name)
    module = importlib.import_module(f"evaluators.{name}")
    offered: list[Any] = [one for one in vars(module).values() if is_dataclass(one) and getattr(one, "name", None) == name]
    assert len(offered) == 1, f"evaluators/{name}.py must offer one dataclass named {name!r}"
    return offered[0]()


def questions_of(evaluator: Evaluator) -> dict[str, str]:
    """The official test questions by problem id, if RAYBRIDGE_DATA is set: earlier runs are checked against them."""
    return {problem.id: problem.question for problem in evaluator.problems("test")} if data_folder() else {}


def summarise_samples(samples: pd.DataFrame, where: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each arm and reading: valid, invalid, truncated, correct, and the accuracy with its interval."""
    rows = []
    for arm, part in samples.groupby("arm", sort=False):
        for column in score_columns(part):
            reading = column.removeprefix("score_")
            n, correct, invalid = len(part), float(part[column].sum()), int(part[f"answer_{reading}"].isna().sum())
            low, high = wilson(round(correct), n)
            truncated = part["truncated"] if "truncated" in part else pd.Series(dtype="boolean")
            rows.append(
                {
                    **where,
                    "arm": arm,
                    "reading": reading,
                    "n": n,
                    "valid": n - invalid,
                    "invalid": invalid,
                    "truncated": int(truncated.sum()) if len(truncated) and truncated.notna().all() else None,
                    "correct": correct,
                    "accuracy": correct / n,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def score_columns(samples: pd.DataFrame) -> list[str]:
    """The columns that hold scores, the first reading first."""
    return [column for column in map(str, samples) if column.startswith("score_")]


def examples_of(samples: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """The first `count` correct, wrong and invalid completions of each arm by its first reading."""
    column = score_columns(samples)[0]
    reading = column.removeprefix("score_")
    found = []
    for arm, part in samples.groupby("arm", sort=False):
        invalid = part[f"answer_{reading}"].isna()
        kinds = {"correct": part[column] >= 1, "wrong": (part[column] < 1) & ~invalid, "invalid": invalid}
        for kind, rows in kinds.items():
            found += [
                {
                    "arm": arm,
                    "kind": kind,
                    "problem": row["problem"],
                    "answer": None if kind == "invalid" else row[f"answer_{reading}"],
                    "completion": row["completion"],
                }
                for row in part[rows].head(count).to_dict("records")
            ]
    return found


def evaluations_at(path: Path, on: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """(where it is from, sample rows) of each evaluation: of a trial, of those in a folder or below its `trials/`, of an
    earlier run's directory, or of a table of samples.
    """
    if (path / "trial.json").is_file():
        run = find_trial(str(path), Results())
        found = []
        for evaluator, split, step in run.sampled():
            samples = run.samples(evaluator, split, step)
            assert samples is not None
            found.append(({"of": run.path.name, "on": f"{evaluator}/{split}", "step": step}, samples))
        if not found:
            raise ValueError(f"{path} has no evaluations yet")
        return found
    if path.suffix == ".parquet" and path.is_file():
        samples = read_frame(path)
        missing = {"arm", "problem", "completion"} - set(samples)
        if missing or not score_columns(samples):
            raise ValueError(
                f"{path} is no table of samples: it has no column {sorted(missing)[0] if missing else 'score_...'!r}"
            )
        return [({"of": path.stem, "on": "", "step": None}, samples)]
    if trials := sorted([*path.glob("*/trial.json"), *path.glob("trials/*/trial.json")]):
        return [found for trial in trials for found in evaluations_at(trial.parent, on)]
    if path.is_dir():
        runs = [read_run(folder, load_evaluator(on)) for folder in find_runs([path])]
        return [({"of": run.name, "on": on, "step": one.step}, one.samples) for run in runs for one in run.evaluations]
    raise ValueError(f"{path} is no trial's directory, no table of samples (.parquet) and no directory of an earlier run")


def table_of(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Summary rows as a table, a blank where something was not recorded."""
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    columns = [column for column in rows[0] if column not in ("low", "high") and any(row[column] is not None for row in rows)]
    for column in columns:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right", no_wrap=column == "of")
    for row in rows:
        told = dict(row) | {
            "accuracy": f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            "correct": f"{row['correct']:g}",
        }
        table.add_row(*(escape(str(told[column])) if told[column] is not None else "" for column in columns))
    return table


def shorten(completion: str, limit: int = 300) -> str:
    """A completion, its middle left out if it is long."""
    return completion if len(completion) <= limit else f"{completion[: limit // 2]} ... {completion[-limit // 2 :]}"
