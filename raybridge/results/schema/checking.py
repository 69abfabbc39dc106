"""What a file holds against what the schema says of it: columns that are missing or of another type are told by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from raybridge.results.schema.column import Column, File, Kind

CALLED: Mapping[Kind, str] = {
    **{"number": "a number", "text": "text", "truth": "true or false", "object": "an object", "list": "a list"},
    **{"text or object": "text or an object"},
}
TYPES: Mapping[Kind, type | tuple[type, ...]] = {
    **{"number": (int, float), "text": str, "truth": bool, "object": dict, "list": list, "text or object": (str, dict)}
}


def check_table(rows: pd.DataFrame, file: File, where: str, *, without: Collection[str] = ()) -> pd.DataFrame:
    """The rows, once it is sure that they are of this kind of file. without: columns that were not read."""
    names = [str(name) for name in rows]
    for needed in file.needed:
        if needed not in without and not any(fnmatchcase(name, needed) for name in names):
            raise ValueError(
                f"{where} has no column {needed!r}: it is damaged, or of another version of raybridge; it has "
                f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
            )
    for name in names:
        if (column := file.column(name)) is not None and not _holds(rows[name], column.kind):
            odd = next((value for value in rows[name] if not _is(value, column.kind)), None)
            raise ValueError(f"{where}: column {name!r} must be {CALLED[column.kind]}, not {str(odd)[:40]!r}")
    return rows


def _holds(values: pd.Series, kind: Kind) -> bool:
    if kind != "text" and (is_numeric_dtype(values.dtype) or is_bool_dtype(values.dtype)):
        return True  # rows that lack a truth have it as a number
    return all(_is(value, kind) for value in values)


def _is(value: Any, kind: Kind) -> bool:
    if kind == "text":
        return isinstance(value, str) or pd.isna(value) is True
    return isinstance(value, Real) or value is None


def check_record(content: dict[str, Any], file: File, where: str) -> dict[str, Any]:
    """The same of a JSON object; null stands for what is missing."""
    for column in file.columns:
        *above, last = column.name.split(".")
        for place, inner in _objects(content, above, where):
            _check_key(inner, last, column, f"{where}: {place}")
    return content


def _check_key(inner: Mapping[str, Any], last: str, column: Column, where: str) -> None:
    null = not column.needed if column.null is None else column.null
    if (column.needed and last not in inner) or (last in inner and inner[last] is None and not null):
        raise ValueError(f"{where}{last} is {'null' if last in inner else 'missing'}; it is damaged, or of another version")
    for name in inner if "*" in last else (last,):
        value = inner.get(name)
        wrong = not isinstance(value, TYPES[column.kind]) or (isinstance(value, bool) and column.kind == "number")
        if value is not None and fnmatchcase(name, last) and wrong:
            raise ValueError(f"{where}{name} must be {CALLED[column.kind]}, not {str(value)[:40]!r}")


def _objects(content: Any, above: list[str], where: str, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, object) of each inner object at this place; of a list all its items. What is missing has none."""
    if content is None:
        return
    if isinstance(content, list) and place:
        for number, item in enumerate(content, start=1):
            yield from _objects({} if item is None else item, above, where, f"{place[:-1]} {number}.")
        return
    if not isinstance(content, dict):
        raise ValueError(f"{where}: {place[:-1]} must be an object, not {str(content)[:40]!r}")
    if not above:
        yield place, content
        return
    first, *rest = above
    for name in content if first == "*" else (first,):
        yield from _objects(content.get(name), rest, where, f"{place}{name}.")
