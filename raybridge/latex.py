"""LaTeX tables in booktabs style that compile as they are and, with the standalone package, inside a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{DAGGER}": r"$\dagger$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
}
ABSENT = "---"


@dataclass(frozen=True, kw_only=True)
class Column:
    """How a column of the data appears in a table.

    format: Python's format of a number, "p" for a p value, or "words" for text with underscores.
    low, high: columns with the interval's ends.
    mark: a column that says "best" (then it is bold) or "tie" (then it carries a dagger) of this row's value.
    """

    header: str
    format: str = ""
    low: str | None = None
    high: str | None = None
    mark: str | None = None


def render(table: pd.DataFrame, columns: Mapping[str, Column], *, caption: str, label: str, origin: Mapping[str, str]) -> str:
    """A LaTeX document that is the table and nothing else."""
    missing = [name for name in columns if name not in table]
    assert not missing, f"table {label} has no columns {missing}"
    rows = [" & ".join(_cell(row, name, column) for name, column in columns.items()) for row in table.to_dict("records")]
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in columns)
    return "\n".join(
        [
            "% Written by raybridge. It compiles as it is; a paper that loads the standalone package can \\input it.",
            f"% {origin['commits']}",
            f"% trials {origin['fingerprints']}",
            r"\documentclass{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs}",
            r"\usepackage[margin=2cm]{geometry}",
            r"\begin{document}",
            r"\pagestyle{empty}",
            r"\begin{table}[h]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
            f"\\caption{{{escaped(caption)}}}",
            f"\\label{{tab:{label}}}",
            f"\\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
            r"\toprule",
            " & ".join(escaped(column.header) for column in columns.values()) + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            r"\end{document}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda match: SPECIAL[match[0]], text)


def _cell(row: Mapping[Any, Any], name: str, column: Column) -> str:
    value = row[name]
    if pd.isna(value):
        return ABSENT
    text = _shown(value, column.format)
    mark = row.get(column.mark)
    if mark == "best":
        text = rf"\textbf{{{text}}}"
    elif mark == "tie":
        text += r"$^{\dagger}$"
    if column.low and column.high and not pd.isna(row[column.low]):
        low, high = (_shown(row[end], column.format) for end in (column.low, column.high))
        text += rf" {{\scriptsize [{low}, {high}]}}"
    return text


def _shown(value: Any, how: str) -> str:
    if isinstance(value, str):
        return escaped(value.replace("_", " ") if how == "words" else value)
    if how == "p":
        return "$<$0.001" if value < 0.001 else f"{value:.3f}"
    return format(value, how).replace("-", "$-$")
