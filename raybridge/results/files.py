"""Files that are whole whatever ends the process: written under a temporary name and renamed."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raybridge.data import check_surrogates, writes_surrogates
from raybridge.errors import reason_of

LEFTOVER = ".tmp"  # ends every temporary name; they start with a dot
LEFT_FOR_DEAD = 3600.0  # seconds after which another process's temporary file is no longer being written


def read_json(path: Path, needs: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object; what is wrong with the file is said in one sentence."""
    try:
        written = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; restore it or move its directory out of {path.parent.parent}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    try:
        content = json.loads(written.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it or move its directory out of the results") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object, not {type(content).__name__}")
    if writes_surrogates(written):
        check_surrogates(content, str(path))
    for name in needs:
        if name not in content:
            raise ValueError(f"{path} has no field {name!r}; it has {', '.join(map(repr, content)) or 'no fields'}")
    return content


def read_frame(path: Path, *, without: Sequence[str] = ()) -> pd.DataFrame:
    """A parquet table; the columns in `without` are not even read. Whatever is wrong with the file is one sentence."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            columns = [name for name in file.schema_arrow.names if name not in without]
            return file.read(columns=columns, use_threads=False).to_pandas(use_threads=False)  # threads cost small files more
    except Exception as error:  # a flipped bit comes out as any, of the page, the codec, the type or the name
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(f"{path} cannot be read ({error.strerror})") from None
        reason = reason_of(error)
        raise ValueError(f"{path} is not a parquet table ({reason}); delete it and it is computed again") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. Refuses what JSON has no form for."""
    write_bytes(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def finite(content: Any) -> Any:
    """The same with None for each number that is not finite, for which JSON has no form."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_frame(path: Path, frame: pd.DataFrame, *, mark: str = "") -> None:
    """Write a parquet table atomically, each page with its checksum: a bit that flips later is no other number."""
    write_bytes(path, parquet_of(frame), mark=mark)


def parquet_of(frame: pd.DataFrame, *, level: int | None = None) -> bytes:
    """A table as parquet, each page with its checksum. level: of its compression; the library's own where none is given."""
    buffer = io.BytesIO()
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(rows, buffer, compression="zstd", compression_level=level, write_page_checksum=True)
    return buffer.getvalue()


def write_bytes(path: Path, content: bytes, *, mark: str = "") -> None:
    """Write a file under a temporary name and rename it: the old content or the new, never a part.

    The temporary name is always the same, so what a kill leaves behind is overwritten by the next write; `mark` tells
    writers apart where there may be several.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{mark}{LEFTOVER}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def written_since(path: Path, time_: float) -> bool:
    """Whether a file is there and was written after a time."""
    try:
        return path.stat().st_mtime >= time_
    except FileNotFoundError:
        return False


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left here; one that is still being written is younger."""
    for path in folder.glob(f".*{LEFTOVER}"):
        with contextlib.suppress(FileNotFoundError):  # another process may be tidying up as well
            if time.time() - path.stat().st_mtime > LEFT_FOR_DEAD:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line of JSON. A line that a kill cut short is cut off first; a disk that fills leaves no part of the new one."""
    line = json.dumps(row, allow_nan=False).encode() + b"\n"
    with path.open("a+b", buffering=0) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        try:
            written = file.write(line)
            if written != len(line):  # a disk may fill in the middle of a line and say so at the next write
                file.write(line[written:])
        except OSError:
            file.truncate(end)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, none where there is no file; a last line that a kill cut short is dropped."""
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    rows = [_row(line) for line in lines]
    if None in rows:
        raise ValueError(f"{path}, line {rows.index(None) + 1}: not JSON, or no object; delete the line or restore the file")
    return [row for row in rows if row is not None]


def _end_of_last_line(file: Any) -> int:
    """Offset behind the last newline: what follows is a line that a kill cut short."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _row(line: bytes) -> dict[str, Any] | None:
    """A line of JSON, or None where it is no object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
