"""Sample rows for a terminal: how they are counted, examples of them, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from raybridge.analysis.measures import readings_of, summarised
from raybridge.console import one_line, printable


def counted(samples: pd.DataFrame, where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each arm and reading: valid, invalid, truncated, correct, and the accuracy with its interval.

    where: what every row begins with.
    """
    return [
        {
            **where,
            **{name: row[name] for name in ("arm", "reading", "n")},
            "valid": row["n"] - row["invalid"],
            **{name: row[name] for name in ("invalid", "truncated", "correct", "accuracy", "low", "high")},
        }
        for row in summarised(samples, step=0, split="", evaluator="")
    ]


def examples_of(samples: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """The first `count` correct, wrong and invalid completions of each arm by its first reading."""
    reading = readings_of(samples)[0]
    found = []
    for arm, part in samples.groupby("arm", sort=False):
        score, invalid = part[f"score_{reading}"], part[f"answer_{reading}"].isna()
        kinds = {"correct": score >= 1, "wrong": (score < 1) & ~invalid, "invalid": invalid}
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


def table_of(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Summary rows as a table, a blank where something was not recorded."""
    table = Table(title=escape(one_line(title)), box=box.SIMPLE_HEAD, title_justify="left")
    columns = [column for column in rows[0] if column not in ("low", "high") and any(row[column] is not None for row in rows)]
    for column in columns:
        table.add_column(
            escape(one_line(column)), justify="left" if isinstance(rows[0][column], str) else "right", no_wrap=column == "of"
        )
    for row in rows:
        told = dict(row) | {
            "accuracy": f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            "correct": f"{row['correct']:g}",
        }
        table.add_row(*(escape(printable(told[column])) if told[column] is not None else "" for column in columns))
    return table


def shorten(completion: str, limit: int = 300) -> str:
    """A completion as a terminal may see it, its middle left out if it is long."""
    completion = printable(completion)
    return completion if len(completion) <= limit else f"{completion[: limit // 2]} ... {completion[-limit // 2 :]}"
