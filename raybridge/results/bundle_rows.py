"""The tables of a bundle, held to what sample rows are before anything is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raybridge.arms import parse
from raybridge.errors import reason_of, unknown
from raybridge.results.files import read_frame
from raybridge.results.readers import COUNTED
from raybridge.results.schema import CONDITIONING, TABLES, File

MOST_ROWS, MOST_BYTES = 5_000_000, 2**32  # of a table, so that a small file cannot fill the memory
LONGEST = 300  # characters of a problem's id and of a label
LARGEST = 1e15  # of a number in a row
TEXTS = ("problem", "arm", "completion", "prompt_hash", "template_hash", "chosen", "identity", "answer_recorded")
NEEDED = ("problem", "arm", "completion", "soft_tokens")
PLAIN = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
SAMPLES: File = next(one for one in TABLES if one.path.endswith("step_*.parquet"))


def read_table(file: Path) -> pd.DataFrame:
    """A table of plain columns. What it would take in memory is looked at first."""
    try:
        told, schema = pq.read_metadata(file), pq.read_schema(file)
        size = sum(told.row_group(number).total_byte_size for number in range(told.num_row_groups))
    except Exception as error:  # a damaged file comes out as any
        raise ValueError(f"{file} is not a parquet table ({reason_of(error)})") from None
    if told.num_rows > MOST_ROWS or size > MOST_BYTES:
        raise ValueError(f"{file} has {told.num_rows:,} rows of {size:,} bytes; a bundle's have at most {MOST_ROWS:,} rows")
    for field in schema:
        if not any(fits(field.type) for fits in (*PLAIN, pa.types.is_null)):
            raise ValueError(f"{file}: column {field.name!r} holds {field.type}; a bundle's hold text, numbers and booleans")
    return read_frame(file)


def check_rows(rows: pd.DataFrame, where: str) -> None:
    """Refuse what are no sample rows: columns, types, ranges, labels, and a problem that an arm answered twice."""
    columns = list(map(str, rows))
    readings = [name.removeprefix("score_") for name in columns if name.startswith("score_")]
    if missing := [name for name in (*NEEDED, *(f"answer_{one}" for one in readings)) if name not in columns]:
        raise ValueError(f"{where} has no column {missing[0]!r}")
    for measure, count in COUNTED.items():
        if measure in columns and count not in columns:
            raise ValueError(f"{where} has a column {measure!r} and none of its {count!r}")
    if not readings:
        raise ValueError(f"{where} has no column 'score_...'")
    if odd := [name for name in columns if SAMPLES.column(name) is None]:
        raise unknown("column", odd[0], [one.name for one in SAMPLES.columns], where)
    if not len(rows):
        raise ValueError(f"{where} holds no rows")
    for name in columns:
        _check_text(rows[name], where) if _is_text(name) else _check_numbers(rows[name], where)
    for name in ("problem", "arm", "completion", *(f"score_{one}" for one in readings)):
        if rows[name].isna().any():
            raise ValueError(f"{where}: a row has no {name}")
    for reading in readings:
        scores = rows[f"score_{reading}"].astype(float)
        if not scores.between(0, 1).all():
            row = rows.loc[~scores.between(0, 1)].iloc[0]
            found = row[f"score_{reading}"]
            raise ValueError(f"{where}: {row['arm']} on {row['problem']}: score_{reading} is {found:g}; a score lies in 0..1")
    for name, called in {"problem": "id of a problem", "arm": "label of an arm"}.items():
        for value in rows[name].unique():
            if not 0 < len(value) <= LONGEST or not value.isprintable():
                raise ValueError(f"{where}: {value[:40]!r} is no {called}")
    for label in rows["arm"].unique():
        parse(label)
    if (again := rows.duplicated(["problem", "arm"])).any():
        row = rows[again].iloc[0]
        raise ValueError(f"{where}: {row['problem']} was answered twice by {row['arm']}")


def check_conditioning(rows: pd.DataFrame, where: str) -> None:
    """Refuse what is no table of conditioning."""
    if list(rows) != CONDITIONING:
        raise ValueError(f"{where} must have the columns {', '.join(CONDITIONING)}")
    _check_text(rows["kind"], where)
    for name in CONDITIONING[1:]:
        _check_numbers(rows[name], where)


def _is_text(name: str) -> bool:
    return name in TEXTS or (name.startswith("answer_") and name != "answer_bytes")


def _check_text(column: pd.Series, where: str) -> None:
    if odd := [value for value in column.dropna() if not isinstance(value, str)]:
        raise ValueError(f"{where}: {column.name} must be text, not {str(odd[0])[:40]!r}")


def _check_numbers(column: pd.Series, where: str) -> None:
    values = column.dropna()
    if any(isinstance(value, str | bytes) for value in values):
        raise ValueError(f"{where}: {column.name} must be a number, not text")
    numbers = values.to_numpy(dtype=float)
    if not (np.isfinite(numbers) & (np.abs(numbers) <= LARGEST)).all():
        raise ValueError(f"{where}: {column.name} holds a number that is none or beyond all measure")
