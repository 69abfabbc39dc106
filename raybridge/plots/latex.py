"""LaTeX tables in booktabs style that compile as they are and, with the standalone package, inside a paper."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raybridge.console import one_line

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # behind a line's end it would be an option
    "]": "{]}",
    "*": "{*}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
}
LATIN = 0x17F  # the last character that every LaTeX has set up
ABSENT = "---"
PAGE = 45  # rows that fit a page; a longer table goes on over the next ones
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # a wide table is made as narrow as the page


@dataclass(frozen=True, kw_only=True)
class Column:
    """How a column of the data appears in a table.

    format: Python's format of a number, "p" for a p value, or "words" for text with underscores.
    low, high: columns with the interval's ends.
    mark: a column that says whether dev chose this row: then it is bold. What test says is no reason for it.
    heads: no column, but a line above each run of rows that have the same value.
    """

    header: str
    format: str = ""
    low: str | None = None
    high: str | None = None
    mark: str | None = None
    heads: bool = False


def render(table: pd.DataFrame, columns: Mapping[str, Column], *, caption: str, label: str, origin: Mapping[str, str]) -> str:
    """A LaTeX document that is the table and nothing else."""
    missing = [name for name in columns if name not in table]
    assert not missing, f"table {label} has no columns {missing}"
    heads = [name for name, column in columns.items() if column.heads]
    columns = {name: column for name, column in columns.items() if not column.heads}
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in columns)
    named = [f"\\caption{{{escaped(caption)}}}", f"\\label{{tab:{label}}}"]
    head = [r"\toprule", " & ".join(escaped(column.header) for column in columns.values()) + r" \\", r"\midrule"]
    body = _rows(table, columns, heads)
    if len(table) > PAGE:
        first, *others = named
        inner = [rf"\begin{{longtable}}{{@{{}}{kinds}@{{}}}}", first, *others, r"\\", *head, r"\endhead", *body, r"\bottomrule"]
        inner = [r"\footnotesize\setlength{\tabcolsep}{4pt}", *inner, r"\end{longtable}"]
    else:
        tabular = [FIT, rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}", *head, *body, r"\bottomrule", r"\end{tabular}}"]
        inner = [r"\begin{table}[h]", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}"]
        inner += [*named, *tabular, r"\end{table}"]
    return "\n".join(
        [
            "% Written by raybridge. It compiles as it is; a paper that loads the standalone package can \\input it.",
            f"% {origin['commits']}",
            f"% trials {origin['fingerprints']}",
            r"\documentclass{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage{booktabs,graphicx,longtable}",
            r"\usepackage[margin=2cm]{geometry}",
            r"\begin{document}",
            r"\pagestyle{empty}",
            *inner,
            r"\end{document}",
            "",
        ]
    )


def _rows(table: pd.DataFrame, columns: Mapping[str, Column], heads: Sequence[str]) -> list[str]:
    """The rows of the body, with a line above those that have the same heads."""
    lines: list[str] = []
    above: tuple[Any, ...] = ()
    for row in table.to_dict("records"):
        told = tuple(row[name] for name in heads)
        if told != above:
            text = escaped(", ".join(map(str, told)))
            lines += [r"\addlinespace"] * bool(lines) + [rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{text}}}}} \\"]
            above = told
        lines.append(" & ".join(_cell(row, name, column) for name, column in columns.items()) + r" \\")
    return lines


def escaped(text: str) -> str:
    """Text as LaTeX shows it, in one line; of other scripts than the Latin the number of each character."""
    told = re.sub("|".join(map(re.escape, SPECIAL)), lambda match: SPECIAL[match[0]], one_line(text))
    return "".join(one if ord(one) <= LATIN else f"{{[}}U+{ord(one):04X}{{]}}" for one in told)


def _cell(row: Mapping[Any, Any], name: str, column: Column) -> str:
    value = row[name]
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ABSENT
    text = _shown(value, column.format)
    if column.mark and row[column.mark]:
        text = rf"\textbf{{{text}}}"
    if column.low and column.high and not pd.isna(row[column.low]):
        low, high = (_shown(row[end], column.format) for end in (column.low, column.high))
        text += rf" {{\scriptsize [{low}, {high}]}}"
    return text


def _shown(value: Any, how: str) -> str:
    if not isinstance(value, numbers.Real):
        return escaped(str(value).replace("_", " ") if how == "words" else str(value))
    if how == "p":
        return "$<$0.001" if value < 0.001 else f"{value:.3f}"
    return format(value, how).replace("-", "$-$")
