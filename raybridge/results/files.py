"""Files that are whole whatever ends the process: written under a temporary name and renamed."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raybridge.data import check_surrogates, writes_surrogates
from raybridge.errors import reason_of

LEFTOVER = ".tmp"  # ends every temporary name; they start with a dot
CHECKSUM = "checksum"  # the key of a record that says what its other keys were when it was written
LEFT_FOR_DEAD = 3600.0  # seconds after which another process's temporary file is no longer being written


def read_json(path: Path, needs: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object, without its checksum; what is wrong with the file is said in one sentence."""
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
    if not _as_written(content):
        raise ValueError(
            f"{path} is not what was written (its checksum is another); restore it, or delete its key {CHECKSUM!r} to take it "
            "as it is"
        )
    for name in needs:
        if name not in content:
            raise ValueError(f"{path} has no field {name!r}; it has {', '.join(map(repr, content)) or 'no fields'}")
    return content


def _as_written(content: dict[str, Any]) -> bool:
    """Take the checksum out of a record; whether it is that of the rest. One of old, or of another hand, has none."""
    told = content.pop(CHECKSUM, None)
    return told is None or told == _checksum(content)


def _checksum(content: Mapping[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(plain.encode()):08x}"


def _signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A record with its checksum. Refuses what JSON has no form for."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    return {**plain, CHECKSUM: _checksum(plain)}


def read_frame(path: Path, *, without: Sequence[str] = ()) -> pd.DataFrame:
    """A parquet table; the columns in `without` are not even read. Whatever is wrong with the file is one sentence."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            held = file.schema_arrow
            if (told := held.pandas_metadata) and held.names != [column["field_name"] for column in told["columns"]]:
                raise ValueError("its footer names other columns in one place than in another")  # no checksum is over it
            columns = [name for name in held.names if name not in without]
            return file.read(columns=columns, use_threads=False).to_pandas(use_threads=False)  # threads cost small files more
    except Exception as error:  # a flipped bit comes out as any, of the page, the codec, the type or the name
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(f"{path} cannot be read ({error.strerror})") from None
        reason = reason_of(error)
        raise ValueError(f"{path} is not a parquet table ({reason}); delete it and it is computed again") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. Refuses what JSON has no form for."""
    write_bytes(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object of results atomically, with its checksum: a digit that changes later is no other number."""
    write_json(path, _signed(content))


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
    line = line_of(row)
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


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON, with its checksum."""
    return json.dumps(_signed(row)).encode() + b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, none where there is no file; a last line that a kill cut short is dropped."""
    if not path.exists():
        return []
    try:
        *lines, _torn = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None or not _as_written(row):
            why = "not JSON, or no object" if row is None else f"not what was written (its {CHECKSUM} is another)"
            raise ValueError(f"{path}, line {number}: {why}; delete the line or restore the file")
        rows.append(row)
    return rows


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
