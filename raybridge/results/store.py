"""A folder of results: the trials in it, the frozen arms that they share, and the sweeps that asked for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.results import readers
from raybridge.results.baselines import parse
from raybridge.results.files import (
    LEFTOVER,
    append_line,
    remove_leftovers,
    write_bytes,
    write_frame,
    write_record,
)
from raybridge.results.lock import alone
from raybridge.results.states import States
from raybridge.results.sweep_folder import SweepFolder
from raybridge.results.trial_run import TEXTS, TrialRun

LONGEST = 200  # bytes of a name: a file's may have 255, and a trial's is longer by its fingerprint, and while it is written


def check_name(name: str) -> None:
    """Refuse a trial's name that no directory can have, or that is too long for one."""
    if Path(name).name != name or name.startswith("."):
        raise ValueError(f"trial name {name!r} is no directory's name")
    if (length := len(name.encode())) > LONGEST:
        raise ValueError(f"trial name {name[:24]!r}... is {length} bytes long; a directory's name has room for {LONGEST}")


class Results:
    """A folder of results, by default ray_results/ of the working directory."""

    def __init__(self, root: Path | str = "ray_results") -> None:
        self.root = Path(root)

    def trials(self, broken: dict[str, str] | None = None) -> list[TrialRun]:
        """Every trial, by directory name. One whose trial.json cannot be read is refused, or told in `broken` if given."""
        found = []
        for path in sorted((self.root / "trials").glob("[!.]*/")):
            try:
                found.append(_open(path))
            except ValueError as error:
                if broken is None:
                    raise
                broken[path.name] = str(error)
        return found

    def find(self, fingerprint: str) -> TrialRun | None:
        """The trial with this fingerprint, whatever its name."""
        for path in sorted((self.root / "trials").glob(f"[!.]*-{fingerprint[:8]}")):
            run = _open(path)
            if run.fingerprint == fingerprint:
                return run
        return None

    def open_trial(self, *, name: str, fingerprint: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> TrialRun:
        """The trial with this fingerprint, or a new one under this name. Its directory appears with both first files."""
        if found := self.find(fingerprint):
            return found
        check_name(name)
        path = self.root / "trials" / f"{name}-{fingerprint[:8]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        building = path.with_name(f".{uuid.uuid4().hex}{LEFTOVER}")
        try:
            write_record(building / "trial.json", {"name": name, "fingerprint": fingerprint, **_parted(config)})
            write_record(building / "provenance.json", provenance)
            building.rename(path)
        except OSError:
            shutil.rmtree(building, ignore_errors=True)
            if found := self.find(fingerprint):  # another process opened the same trial in the meantime
                return found
            if path.exists():
                raise ValueError(f"{path} holds another trial of that name, whose fingerprint begins alike") from None
            raise
        return TrialRun(path, name, fingerprint)

    def baseline(self, key: str, *, text: bool = True) -> pd.DataFrame | None:
        """Sample rows of an arm that needs no translator, or None; without `text` the completions stay on disk."""
        path = self._baseline_path(key)
        return readers.samples(path, without=() if text else TEXTS) if path.exists() else None

    def write_baseline(self, key: str, frame: pd.DataFrame) -> None:
        """Keep the sample rows of an arm that needs no translator, for every trial and every later sweep."""
        path = self._baseline_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        write_frame(path, frame, mark=f".{os.getpid()}")  # two sweeps may write the same baseline

    def baselines(self) -> list[str]:
        """Keys of the baselines on disk."""
        return sorted(path.stem for path in (self.root / "baselines").glob("[!.]*.parquet"))

    def _baseline_path(self, key: str) -> Path:
        assert Path(key).name == key, f"baseline key {key!r} is no file name"
        return self.root / "baselines" / f"{key}.parquet"

    def baselines_of(self, arm: str, evaluator: str, split: str) -> Iterator[tuple[str, pd.DataFrame]]:
        """(key, sample rows) of every baseline of an arm on a split, whatever its identity and its problems."""
        for key in self.baselines():
            told = parse(key)
            if (told.arm, told.evaluator, told.split) == (arm, evaluator, split) and (rows := self.baseline(key)) is not None:
                yield key, rows

    def partial(self, name: str) -> pd.DataFrame | None:
        """Rows of a batch that wait for the others of their arms, or None; `name` says which."""
        path = self._partial_path(name)
        return readers.samples(path) if path.exists() else None

    def write_partial(self, name: str, rows: pd.DataFrame) -> None:
        """Keep the rows of a batch until its arms are done: an evaluation that is killed goes on from there."""
        write_frame(self._partial_path(name), rows, mark=f".{os.getpid()}")  # two may compute the same arm

    def forget_partial(self, name: str) -> None:
        """Delete the rows of a batch: they are where they belong."""
        self._partial_path(name).unlink(missing_ok=True)

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Hold the batches of this name, each of a name of its own: who would compute the same waits until they are kept."""
        return alone(self._partial_path(name).with_suffix(".lock"))

    def _partial_path(self, name: str) -> Path:
        return self.root / "partial" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.parquet"

    def kept_states(self, budget: int | None = None) -> States:
        """Where sources' states of questions are kept. budget: bytes that they may take; None for a share of the disk."""
        return States(root=self.root.absolute() / "states", budget=budget)

    def note_evaluation(self, row: Mapping[str, Any]) -> None:
        """Add a line to evaluations.jsonl: what was computed outside a sweep, by which commit, on what."""
        self.root.mkdir(parents=True, exist_ok=True)
        append_line(self.root / "evaluations.jsonl", row)

    def sweep(self, name: str) -> SweepFolder:
        """The folder of a sweep, launched or not."""
        return SweepFolder(self.root / "sweeps" / name)

    def tracked(self, tracker: str) -> Path:
        """The folder of a tracker: its own store, where that is on disk, and what it has been told of each trial."""
        return self.root.absolute() / "trackers" / tracker

    def sweeps(self) -> list[SweepFolder]:
        """Every sweep that has a plan."""
        return [SweepFolder(path.parent) for path in sorted((self.root / "sweeps").glob("[!.]*/plan.json"))]

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that is drawn from the results, such as figures/arms.pdf; returns its path."""
        write_bytes(self.root / name, content)
        return self.root / name


def _parted(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved experiment as trial.json holds it: what was asked for, and beside it the contents of what it reads."""
    asked = {key: value for key, value in config.items() if key != "contents"}
    return {"config": asked} | ({"contents": config["contents"]} if "contents" in config else {})


def _open(path: Path) -> TrialRun:
    told = readers.record(path / "trial.json", readers.TRIAL)
    return TrialRun(path, told["name"], told["fingerprint"])


def trials_at(path: Path) -> list[TrialRun]:
    """The trial whose directory this is, or those in a folder or below its `trials/`; none where there is none."""
    if (path / "trial.json").is_file():
        return [_open(path)]
    return [_open(file.parent) for file in sorted([*path.glob("*/trial.json"), *path.glob("trials/*/trial.json")])]
