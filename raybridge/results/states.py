"""What a frozen source makes of questions, on disk: read once, and shared by all trials and processes that ask for it.

A folder a shelf (one source behind one prompt), in it a folder a part (some questions), in it a file a layer:

    states/<shelf>/<part>/questions.json    digests of the questions, and how many positions each has
                          layer_016.npy     states (positions of all of them, width), in the source's own precision
                          layer_016.json    a checksum a question; written last: its presence means that the layer is there

Every file is written under a temporary name and renamed, so a kill loses a part at most, and two who write the same part
write the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raybridge.errors import reason_of
from raybridge.results.files import read_json, remove_leftovers, write_bytes
from raybridge.results.lock import alone

SHARE = 0.25  # of what is free, beside what is kept already, that states may take where nobody says how much
QUESTIONS = "questions.json"


def digest(ids: Sequence[int]) -> str:
    """What a question's tokens are known by."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class States:
    """The folder of all shelves. budget: bytes that they may take; None for a share of the disk."""

    root: Path
    budget: int | None = None

    @property
    def used(self) -> int:
        """Bytes that they take."""
        return sum(path.stat().st_size for path in self.root.glob("*/*/*") if path.is_file())

    @property
    def most(self) -> int:
        """Bytes that they may take."""
        there = next(path for path in (self.root, *self.root.absolute().parents) if path.exists())
        room = shutil.disk_usage(there).free + self.used
        return int(SHARE * room) if self.budget is None else min(self.budget, room)

    def take(self, more: int) -> bool:
        """Whether so many more bytes are within the budget."""
        return self.used + more <= self.most

    def shelf(self, key: str) -> Shelf:
        """The states of one source behind one prompt."""
        assert Path(key).name == key, f"shelf {key!r} is no directory's name"
        return Shelf(self.root / key)


@dataclass(kw_only=True)
class Part:
    """Some questions of a shelf. places: where each one's positions begin and end."""

    path: Path
    places: Mapping[str, tuple[int, int]]
    there: set[int] = field(default_factory=set)  # layers: what is there once stays
    opened: dict[int, tuple[np.ndarray, Mapping[str, int]]] = field(default_factory=dict)
    seen: set[tuple[int, str]] = field(default_factory=set)

    def has(self, layer: int) -> bool:
        """Whether this layer of its questions is there."""
        if layer not in self.there and _checks(self.path, layer).exists():
            self.there.add(layer)
        return layer in self.there

    def read(self, question: str, layer: int) -> np.ndarray:
        """A question's states (positions, width) in a layer, out of its file. Their checksum is looked at the first time."""
        if layer not in self.opened:
            self.opened[layer] = self._open(layer)
        rows, checks = self.opened[layer]
        start, end = self.places[question]
        states = rows[start:end]
        if (layer, question) not in self.seen:
            if zlib.crc32(states) != checks[question]:
                raise _damaged(_states(self.path, layer), "its checksum is another")
            self.seen.add((layer, question))
        return states

    def _open(self, layer: int) -> tuple[np.ndarray, Mapping[str, int]]:
        path = _states(self.path, layer)
        checks = read_json(_checks(self.path, layer), needs=("crc32",))["crc32"]
        try:
            rows = np.lib.format.open_memmap(path, mode="r")  # refuses objects, which would be pickles
        except Exception as error:  # a header that is no header comes out as any
            raise _damaged(path, reason_of(error)) from None
        positions = max(end for _, end in self.places.values())
        if not isinstance(checks, list):
            raise _damaged(_checks(self.path, layer), f"{checks!r} are no checksums")
        if rows.ndim != 2 or len(rows) != positions or len(checks) != len(self.places):
            raise _damaged(path, f"it has shape {rows.shape} and {len(checks)} checksums")
        return np.asarray(rows), dict(zip(self.places, checks, strict=True))  # to cut a memmap takes three times as long


class Shelf:
    """States of questions by their digests. What others put there meanwhile is found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: dict[str, Part] = {}
        self._where: dict[str, list[Part]] = {}
        self._found: dict[tuple[str, tuple[int, ...]], list[Part]] = {}

    def lacks(self, questions: Sequence[str], layers: Sequence[int]) -> list[str]:
        """Those of the questions that some of the layers are not there of."""
        wanted = tuple(layers)
        if any(self._find(question, wanted) is None for question in questions):
            self._look()
        return [question for question in questions if self._find(question, wanted) is None]

    def read(self, question: str, layers: Sequence[int]) -> list[np.ndarray]:
        """A question's states (positions, width) in each of the layers, which must be there."""
        found = self._find(question, tuple(layers))
        assert found is not None, f"layers {layers} of question {question} are not on the shelf"
        return [part.read(question, layer) for part, layer in zip(found, layers, strict=True)]

    def write(self, lengths: Mapping[str, int], layers: Mapping[int, np.ndarray]) -> None:
        """Put a part there: by question its positions, and by layer the states of all of them (positions, width)."""
        part = self.path / hashlib.sha256("\n".join(lengths).encode()).hexdigest()[:16]
        part.mkdir(parents=True, exist_ok=True)
        remove_leftovers(part)
        ends = np.cumsum(list(lengths.values())).tolist()
        mark = f".{os.getpid()}"  # two processes may write the same part
        if not (part / QUESTIONS).exists():
            write_bytes(part / QUESTIONS, json.dumps({"positions": dict(lengths)}).encode(), mark=mark)
        for layer, rows in layers.items():
            assert len(rows) == ends[-1], "a row of states a position"
            checks = [zlib.crc32(rows[end - length : end]) for end, length in zip(ends, lengths.values(), strict=True)]
            content = io.BytesIO()
            np.save(content, rows, allow_pickle=False)
            write_bytes(_states(part, layer), content.getvalue(), mark=mark)
            write_bytes(_checks(part, layer), json.dumps({"crc32": checks}).encode(), mark=mark)

    def alone(self) -> AbstractContextManager[None]:
        """Fill it while nobody else does: who would read the same questions waits, and finds them."""
        return alone(self.path.with_name(f".{self.path.name}.lock"))

    def _find(self, question: str, layers: tuple[int, ...]) -> list[Part] | None:
        """The part that has a question in each of the layers; None where one of them is not there."""
        found = self._found.get((question, layers))
        if found is None:
            first = (next((part for part in self._where.get(question, ()) if part.has(layer)), None) for layer in layers)
            found = [part for part in first if part is not None]
            if len(found) < len(layers):
                return None
            self._found[question, layers] = found  # what is there once stays
        return found

    def _look(self) -> None:
        """Find the parts that have come since."""
        for path in sorted(self.path.glob(f"[!.]*/{QUESTIONS}")):
            if path.parent.name not in self._parts:
                part = Part(path=path.parent, places=_places(path))
                self._parts[path.parent.name] = part
                for question in part.places:
                    self._where.setdefault(question, []).append(part)


def _states(part: Path, layer: int) -> Path:
    return part / f"layer_{layer:03d}.npy"


def _checks(part: Path, layer: int) -> Path:
    return part / f"layer_{layer:03d}.json"


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """Where each question's positions begin and end in the files beside this one."""
    told: dict[str, Any] = read_json(path, needs=("positions",))["positions"]
    ends = np.cumsum(list(told.values())).tolist()
    return {question: (end - length, end) for (question, length), end in zip(told.items(), ends, strict=True)}


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); delete {path.parent} and the source reads its questions again")
