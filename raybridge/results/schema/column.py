"""What is said of a column and of a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["number", "text", "truth", "object", "list", "text or object"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, or a key of JSON with those of inner objects behind a dot. A star stands for any name.

    kind: what it holds. only: when it is there; empty for always. needed: without it the file is refused: it is damaged, or of
    another version. null: whether a key may be null; what is needed may not, unless it says so.
    """

    name: str
    means: str
    kind: Kind = "number"
    unit: str = ""
    only: str = ""
    needed: bool = False
    null: bool | None = None


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of ray_results/. holds: what it is, or what a row of it stands for. only: when it is there."""

    path: str
    holds: str
    columns: tuple[Column, ...]
    only: str = ""

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns without which it is refused."""
        return tuple(one.name for one in self.columns if one.needed)

    def column(self, name: str) -> Column | None:
        """What is said of a column by its name; None where nothing is."""
        return next((one for one in self.columns if fnmatchcase(name, one.name)), None)


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """The names of columns."""
    return tuple(column.name for column in columns)


def described(files: Iterable[File]) -> str:
    """The files as Markdown, a table each."""
    return "\n".join(line for file in files for line in _lines(file))


def _lines(file: File) -> list[str]:
    rows = [
        f"| `{one.name}`{' *' if one.needed else ''} | {one.kind} | {one.means}{f' (only: {one.only})' if one.only else ''} "
        f"| {one.unit} |"
        for one in file.columns
    ]
    only = f" Only: {file.only}." if file.only else ""
    table = ["| column | type | meaning | unit |", "| --- | --- | --- | --- |", *rows, ""] if rows else []
    return [f"## `{file.path}`", "", f"{file.holds}.{only}", "", *table]
