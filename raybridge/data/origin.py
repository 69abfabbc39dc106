"""Rows of benchmarks: from plain files where RAYBRIDGE_DATA has them, else from the hub. What is broken in one is named."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from raybridge.errors import reason_of

BOM = b"\xef\xbb\xbf"
KEPT = 2**28  # bytes of rows that a process keeps
PATIENCE = 5.0  # seconds that the hub is waited for, when it is asked for a revision
HERE = "RAYBRIDGE_HERE"  # where relative paths count from, for processes that a launcher started somewhere else
PINNED = "RAYBRIDGE_REVISIONS"  # revisions of datasets of the hub, as whoever starts workers tells them
CLIENTS = ("aiohttp", "httpcore", "httpx", "httpx2", "requests", "urllib3")  # whose errors of a network are no OSErrors
UNKNOWN = "unknown"  # the revision of rows that were read though nobody told one

REVISIONS: dict[str, str] = {}  # by dataset, of what this process has read from the hub
_asked: dict[str, str] = {}  # by dataset, what the hub told

log = logging.getLogger(__name__)


class UnreachableError(ValueError):
    """Something on the hub that this machine cannot reach: another machine may."""


def from_here(path: str) -> Path:
    """A path as a user wrote it. A relative one counts from where the command was called, in Ray's workers too."""
    return Path(os.environ.get(HERE, "."), Path(path).expanduser())


def data_folder() -> Path | None:
    """The folder that RAYBRIDGE_DATA names, if set. It must exist."""
    named = os.environ.get("RAYBRIDGE_DATA")
    if not named:
        return None
    folder = from_here(named)
    if not folder.is_dir():
        raise ValueError(f"RAYBRIDGE_DATA={named!r} is not a folder")
    return folder


def read_jsonl(path: Path, needs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file; a broken line or a missing field is an error that names file and line.

    Blank lines at the end are no rows, and a byte order mark is no part of the first one.
    """
    blank = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(BOM) if number == 1 else line
            if not line.strip():
                blank = blank or number
                continue
            if blank:
                raise ValueError(f"{path}, line {blank}: blank, and rows follow")
            try:
                row = json.loads(line.decode())
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 (byte {error.start + 1})") from None
            where = f"{path}, line {number}"
            if writes_surrogates(line):
                check_surrogates(row, where)
            yield check_row(row, needs, where)


def writes_surrogates(written: bytes) -> bool:
    """Whether JSON writes a surrogate by its number. Few do, and only in these need the rows be looked through."""
    return b"\\ud" in written or b"\\uD" in written


def check_surrogates(row: Any, where: str) -> None:
    """Refuse half a character: JSON can write one (\\ud83d alone), no file and no tokenizer takes it."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"{where}: a text holds half a character ({half!a}, a surrogate without the other)") from None


def check_row(row: Any, needs: Sequence[str], where: str) -> dict[str, Any]:
    """Return the row if it is an object that has a value for every field in `needs`."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be an object, not {type(row).__name__}")
    for name in needs:
        if name not in row:
            raise ValueError(f"{where}: no field {name!r}; the row has {', '.join(map(repr, row)) or 'no fields'}")
        if row[name] is None:
            raise ValueError(f"{where}: field {name!r} is null")
    return row


def text(row: dict[str, Any], name: str, where: str) -> str:
    """A row's field, which must be text."""
    if not isinstance(row[name], str):
        raise ValueError(f"{where}: field {name!r} must be text, not {type(row[name]).__name__}")
    return row[name]


def data_state() -> tuple[Hashable, ...]:
    """Where data are and which files these are now: what was made of them stays good while this is the same."""
    told = os.environ.get("RAYBRIDGE_DATA")
    files = sorted(from_here(told).glob("*/*")) if told else []
    return told, *((str(file), *_state(file.stat())) for file in files)


def _state(told: os.stat_result) -> tuple[int, ...]:
    return told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def hub_rows(
    dataset: str, subset: str | None, split: str, needs: Sequence[str], *, instead: str = "its rows as plain files"
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset on the hub, streamed through `datasets`; `instead` says what RAYBRIDGE_DATA may hold."""
    from datasets import load_dataset  # a second to import; not needed where RAYBRIDGE_DATA has the rows

    revision, why = hub_revision(dataset)
    pinned = {"revision": revision} if revision else {}
    number = 0
    for part in split.split("+"):  # not every version of datasets streams a sum of splits
        try:
            for row in load_dataset(dataset, subset, split=part, streaming=True, **pinned):
                if not number:
                    _note(dataset, revision, why)
                yield check_row(dict(row), needs, f"{dataset} ({split}), row {number}")
                number += 1
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in CLIENTS:
                raise
            raise UnreachableError(
                f"dataset {dataset!r} cannot be read from the hub ({type(error).__name__}); "
                f"set RAYBRIDGE_DATA to a folder that has {instead}"
            ) from error


def hub_revision(dataset: str) -> tuple[str | None, str]:
    """The commit at which this process reads a dataset of the hub, so that all of it is of one; or None, and why.

    It is what the process was told, or else what the hub says: asked until it answers, and then no more.
    """
    if known := _told().get(dataset) or _asked.get(dataset):
        return known, ""
    from huggingface_hub import HfApi  # not needed where RAYBRIDGE_DATA has the rows

    try:
        told = HfApi().dataset_info(dataset, timeout=PATIENCE).sha
    except Exception as error:  # each client of HTTP has errors of its own; the rows may be there all the same
        return None, reason_of(error)
    if not told:
        return None, "the hub names no commit"
    _asked[dataset] = told
    return told, ""


def revisions_to_tell() -> dict[str, str]:
    """The revisions that this process reads at, for the environment of processes elsewhere; empty where it read none."""
    known = {**_asked, **_told()}
    return {PINNED: json.dumps(known, sort_keys=True)} if known else {}


def _told() -> dict[str, str]:
    """What whoever started this process told it of revisions."""
    return dict(json.loads(os.environ.get(PINNED) or "{}"))


def _note(dataset: str, revision: str | None, why: str) -> None:
    """Record at which revision rows are read. Of a dataset that was read once without, it stays unknown."""
    if revision is None:
        log.warning("dataset %r of the hub is read at no known revision, and recorded as %s: %s", dataset, UNKNOWN, why)
    known = REVISIONS.get(dataset, revision)
    REVISIONS[dataset] = revision if revision is not None and known == revision else UNKNOWN


def rows(
    file: str,
    hub: tuple[str, str | None, str],
    needs: Sequence[str],
    *,
    flat: Callable[[Any], Iterable[dict[str, Any]]] = iter,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row) from `file` under RAYBRIDGE_DATA if it is there, else from the hub's (dataset, subset, split).

    A .jsonl file has a row a line. A .json file has them all at once; `flat` takes them out of what it holds. What was read to
    its end is not read again, unless the file is another by now.
    """
    folder = data_folder()
    path = folder / file if folder is not None else None
    if path is None or not path.is_file():
        dataset, subset, split = hub
        place, called = f"{dataset} ({split})", "row"
        key: tuple[Hashable, ...] = (*hub, tuple(needs))
        first, found = 0, _ROWS.once(key, lambda: hub_rows(dataset, subset, split, needs, instead=file))
    else:
        key = (path, *_state(path.stat()), tuple(needs), flat)
        if path.suffix == ".jsonl":
            place, called = str(path), "line"
            first, found = 1, _ROWS.once(key, lambda: read_jsonl(path, needs))
        else:
            place, called = str(path), "row"
            first, found = 0, _ROWS.once(key, lambda: _read_json(path, flat, needs))
    number = None
    for number, row in enumerate(found, start=first):
        yield f"{place}, {called} {number}", row
    if number is None:
        raise ValueError(f"{place} holds no {called}s: there is no problem in it")


class Kept:
    """Rows that were read, by what they were read from: copies, so that nobody changes another's. The latest, up to a size."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rows: OrderedDict[tuple[Hashable, ...], list[bytes]] = OrderedDict()
        self._sizes: dict[tuple[Hashable, ...], int] = {}

    def once(self, key: tuple[Hashable, ...], read: Callable[[], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        """Yield rows as `read` does, from memory if it was read to its end before."""
        if key in self._rows:
            self._rows.move_to_end(key)
            yield from map(pickle.loads, self._rows[key])
            return
        copies, size = [], 0
        for row in read():
            if size <= self.size:
                copies.append(pickle.dumps(row))
                size += len(copies[-1])
            yield row
        if size <= self.size:
            self._rows[key], self._sizes[key] = copies, size
            while sum(self._sizes.values()) > self.size:
                self._sizes.pop(self._rows.popitem(last=False)[0])


_ROWS = Kept(KEPT)


def _read_json(path: Path, flat: Callable[[Any], Iterable[dict[str, Any]]], needs: Sequence[str]) -> Iterator[dict[str, Any]]:
    written = path.read_bytes()
    try:
        found = list(flat(json.loads(written)))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not of the form that was expected ({type(error).__name__}: {error})") from None
    suspect = writes_surrogates(written)
    for number, row in enumerate(found):
        where = f"{path}, row {number}"
        if suspect:
            check_surrogates(row, where)
        yield check_row(row, needs, where)
