"""A bundle on disk: what one trial came to, in a folder that anybody can check and take into their own results.

A bundle comes from elsewhere, so nothing in it is believed: every name is one of the layout, nothing leads out of the folder,
JSON and tables hold what they should and no more. `docs/BUNDLE.md` has the layout.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.config import DEEPEST, fingerprint, identified
from raybridge.results.bundle_rows import MOST_ROWS, check_conditioning, check_rows, read_table
from raybridge.results.files import LEFTOVER, parquet_of, read_json, read_lines, write_bytes
from raybridge.results.store import check_name
from raybridge.results.trial_run import TrialRun

SUMS, FACTS, WEIGHTS = "SHA256SUMS", "bundle.json", "translator.safetensors"
TRIAL, PROVENANCE, RESULT, METRICS = "trial.json", "provenance.json", "result.json", "metrics.jsonl"
RECORDS = (TRIAL, PROVENANCE, RESULT, METRICS)  # as they stand with the trial
LAYOUT = 1  # of the files; raised when a bundle is laid out otherwise
ROWS = re.compile(r"rows/([A-Za-z][A-Za-z0-9_]*)/(dev|test)/step_(\d{6,9})\.parquet")
CONDITIONING = re.compile(r"conditioning/([A-Za-z][A-Za-z0-9_]*)\.parquet")
FRAME = re.compile(r"frames/([A-Za-z][A-Za-z0-9_]*)/([0-9a-f]{16})\.(before|after)\.txt")
PRINTED = ("answers", "form", "cost", "times")  # what `evaluate` prints, in its order; the last where arms were timed
TABLE = re.compile(rf"tables/(?:evals\.csv|[A-Za-z][A-Za-z0-9_]*/(?:dev|test)/(?:(?:{'|'.join(PRINTED)})\.csv|tables\.md))")
FILES = re.compile("|".join(re.escape(name) for name in ("README.md", "LICENSES.md", FACTS, WEIGHTS, *RECORDS)))
LAID_OUT = (FILES, ROWS, CONDITIONING, FRAME, TABLE)
HASH = re.compile(r"[0-9a-f]{64}")
SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
LARGEST = 2**24  # bytes of SHA256SUMS
HUGE = 2**53  # beyond it a number of a record is none


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Where an evaluation stands. step: of the translator; 0 for the arms without one, and those that another trial lent."""

    evaluator: str
    split: str
    step: int

    @property
    def file(self) -> str:
        """The file of its rows."""
        return f"rows/{self.evaluator}/{self.split}/step_{self.step:06d}.parquet"

    @property
    def benchmark(self) -> tuple[str, str]:
        """(evaluator, split)."""
        return self.evaluator, self.split


Rows = Mapping[Place, pd.DataFrame]  # the sample rows of each evaluation


@dataclass(frozen=True)
class Bundle:
    """A bundle that is there. ValueError wherever something in it is not as it should be."""

    path: Path

    @cached_property
    def sums(self) -> dict[str, str]:
        """SHA-256 of each file, by its name, as SHA256SUMS tells it."""
        file = self.path / SUMS
        if not file.is_file() or file.is_symlink():
            raise ValueError(f"{self.path} is no bundle: it has no {SUMS}")
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file} is larger than {LARGEST:,} bytes: it is no list of a bundle's files")
        told: dict[str, str] = {}
        for number, line in enumerate(file.read_bytes().decode(errors="replace").splitlines(), start=1):
            match = SUM.fullmatch(line)
            if match is None or not any(one.fullmatch(match[2]) for one in LAID_OUT):
                raise ValueError(f"{file}, line {number}: {line[:120]!r} is no digest and file of a bundle")
            told[match[2]] = match[1]
        return told

    def damage(self) -> Iterator[str]:
        """What is not as it was written: files that are missing, that are others, or that belong to no bundle."""
        there = dict(_files(self.path))
        yield from (f"{name} is missing" for name in sorted(self.sums.keys() - there.keys()))
        for name, file in sorted(there.items()):
            if not stat.S_ISREG(file.lstat().st_mode):
                yield f"{name} is no plain file"
            elif name not in self.sums and name != SUMS:
                yield f"{name} is not told in {SUMS}"
            elif name != SUMS and _digest(file) != self.sums[name]:
                yield f"{name} is not what was written (its SHA-256 is not that of {SUMS})"

    def check(self) -> None:
        """Refuse a bundle that is damaged."""
        if found := list(self.damage()):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise ValueError(f"{self.path}: {found[0]}{more}; get the bundle again from where it came from")

    def place(self, name: str) -> Path:
        """A file of the layout, which must be there."""
        assert any(one.fullmatch(name) for one in LAID_OUT), f"{name} is no file of a bundle"
        file = self.path / name
        if name not in self.sums or not file.is_file() or file.resolve() != self.path.resolve() / name:
            raise ValueError(f"{self.path}: {name} is missing")
        return file

    def has(self, name: str) -> bool:
        """Whether it tells of a file."""
        return name in self.sums

    def record(self, name: str) -> dict[str, Any]:
        """A file of JSON, numbers and depth as a record has them."""
        content = read_json(self.place(name))
        check_json(content, str(self.path / name))
        return content

    @cached_property
    def trial(self) -> dict[str, Any]:
        """trial.json: `name`, `fingerprint`, `config` and `contents`."""
        told, where = self.record(TRIAL), self.path / TRIAL
        for name, kind in (("name", str), ("fingerprint", str), ("config", dict), ("contents", dict)):
            if type(told.get(name)) is not kind:
                raise ValueError(f"{where}: {name} must be {_called(kind)}, not {str(told.get(name))[:80]!r}")
        if not HASH.fullmatch(told["fingerprint"]):
            raise ValueError(f"{where}: fingerprint is no SHA-256 in hex")
        check_name(told["name"])
        if (made := fingerprint_told(told)) != told["fingerprint"]:
            raise ValueError(f"{where}: config and contents are those of {made[:8]}, not of {told['fingerprint'][:8]}")
        return told

    @property
    def name(self) -> str:
        """The name of the trial's directory."""
        return f"{self.trial['name']}-{self.trial['fingerprint'][:8]}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What only a bundle tells: `step` of its translator, `golds` by benchmark, `decodings`, `frames`."""
        told, where = self.record(FACTS), self.path / FACTS
        if told.get("layout") != LAYOUT:
            raise ValueError(f"{where}: layout is {told.get('layout')!r}; this raybridge reads {LAYOUT}")
        for name, kind in (("step", int), ("golds", dict), ("decodings", list), ("frames", list)):
            if type(told.get(name)) is not kind:
                raise ValueError(f"{where}: {name} must be {_called(kind)}, not {told.get(name)!r}")
        if any(type(one) is not dict for one in told["frames"]):
            raise ValueError(f"{where}: frames must be objects, each of which tells of one")
        if not 0 < told["step"] < 10**9 or any(type(n) is not int or not 0 < n <= MOST_ROWS for n in told["golds"].values()):
            raise ValueError(f"{where}: step and golds must be whole numbers above 0, and not beyond all measure")
        return told

    def metrics(self) -> list[dict[str, Any]]:
        """The logged steps; none where they were not kept."""
        rows = read_lines(self.place(METRICS)) if self.has(METRICS) else []
        for number, row in enumerate(rows, start=1):
            where = f"{self.path / METRICS}, line {number}"
            check_json(row, where)
            if type(row.get("step")) is not int or any(isinstance(value, dict | list) for value in row.values()):
                raise ValueError(f"{where}: a logged step is numbers by name, one of them the step")
        return rows

    @property
    def places(self) -> list[Place]:
        """The evaluations that it has rows of."""
        found = [ROWS.fullmatch(name) for name in self.sums]
        return sorted(Place(evaluator=one[1], split=one[2], step=int(one[3])) for one in found if one)

    def rows(self, place: Place) -> pd.DataFrame:
        """The sample rows of an evaluation."""
        file = self.place(place.file)
        rows = read_table(file)
        check_rows(rows, str(file))
        return rows

    def conditioning(self) -> dict[str, pd.DataFrame]:
        """What its soft tokens look like from inside, by benchmark."""
        found = {}
        for match in filter(None, map(CONDITIONING.fullmatch, self.sums)):
            file = self.place(match[0])
            found[match[1]] = read_table(file)
            check_conditioning(found[match[1]], str(file))
        return found

    def frame(self, evaluator: str, digest: str) -> tuple[str, str]:
        """What stands before and after a question."""
        files = [self.place(name) for name in frame_files(evaluator, digest)]
        before, after = (file.read_bytes().decode(errors="replace") for file in files)
        return before, after

    @property
    def frames(self) -> list[tuple[str, str]]:
        """(evaluator, digest) of each frame."""
        return sorted({(one[1], one[2]) for one in map(FRAME.fullmatch, self.sums) if one})


def fingerprint_told(trial: Mapping[str, Any]) -> str:
    """The fingerprint that follows from the config and the contents of a trial.json, as the built trial would have it."""
    whole = {**trial["config"], "contents": trial.get("contents")}
    return fingerprint(identified({name: value for name, value in whole.items() if name not in ("name", "source", "target")}))


def is_bundle(path: Path) -> bool:
    """Whether a folder says that it is one."""
    return (path / FACTS).is_file()


def frame_files(evaluator: str, digest: str) -> tuple[str, str]:
    """The files of what stands before and after a benchmark's questions."""
    return f"frames/{evaluator}/{digest}.before.txt", f"frames/{evaluator}/{digest}.after.txt"


def records_of(run: TrialRun) -> dict[str, bytes]:
    """The files of a trial that a bundle holds as they are, under the names that they have in it."""
    found = {name: (run.path / name).read_bytes() for name in RECORDS if (run.path / name).is_file()}
    for file in sorted(run.path.glob("samples/*/conditioning.parquet")):
        found[f"conditioning/{file.parent.name}.parquet"] = file.read_bytes()
    return found


def table_file(rows: pd.DataFrame) -> bytes:
    """A table as parquet: small, for it travels."""
    return parquet_of(rows, level=19)


def check_room(path: Path) -> None:
    """Refuse to write a bundle where something is."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(f"--to: {path} is there and not empty; name a folder that is new or empty")


def write_bundle(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a bundle as a whole: its folder appears when every file is in it."""
    check_room(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{uuid.uuid4().hex}{LEFTOVER}")
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    try:
        for name, content in files.items():
            assert any(one.fullmatch(name) for one in LAID_OUT), f"{name} is no file of a bundle"
            write_bytes(building / name, content)
        write_bytes(building / SUMS, sums.encode())
        building.replace(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def check_json(value: Any, where: str, deep: int = DEEPEST) -> None:
    """Refuse numbers that are none or beyond all measure, and nesting that no record has."""
    if deep < 0:
        raise ValueError(f"{where}: nested deeper than {DEEPEST} levels")
    if isinstance(value, int | float) and not abs(value) <= HUGE:  # NaN is not either
        raise ValueError(f"{where}: {str(value)[:40]} is no number of a record")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_json(part, where, deep - 1)


def _called(kind: type) -> str:
    return {int: "a whole number", str: "text", dict: "an object", list: "a list"}[kind]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of everything in a folder that is no folder, links not followed."""
    for folder, folders, names in os.walk(path):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            file = Path(folder) / name
            yield file.relative_to(path).as_posix(), file


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
