"""What is on disk of one trial.

A directory has one writer at a time (rank 0 of its trainer, or a command that evaluates it and holds `alone` while it adds
rows to those that are there); any number may read.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.results import readers
from raybridge.results.files import (
    LEFTOVER,
    append_line,
    finite,
    line_of,
    write_bytes,
    write_frame,
    write_record,
    written_since,
)
from raybridge.results.launch import Launch
from raybridge.results.lock import alone
from raybridge.results.schema import CONDITIONING, EVAL_COLUMNS, EVAL_KEYS, TEXTS

CHOSEN = ("best_step", "peak", "peak_step", "final")  # what a result says of the checkpoint that dev chose
STEP = re.compile(r"step_(\d{6,})")


def standing(path: Path) -> Path:
    """The directory of a trial as it stands in a folder of results: what a link from somewhere else leads to."""
    here = Path(os.path.abspath(path))  # noqa: PTH100  Path.resolve follows links
    return here if here.parent.name == "trials" else path.resolve()


@dataclass(frozen=True)
class TrialRun:
    """What is on disk of one trial: trials/<name>-<fingerprint8>/."""

    path: Path
    name: str
    fingerprint: str

    @property
    def root(self) -> Path:
        """The folder of results that it stands in, be it as a link to elsewhere."""
        return standing(self.path).parent.parent

    @property
    def config(self) -> dict[str, Any]:
        """The resolved trial."""
        return readers.record(self.path / "trial.json", readers.TRIAL)["config"]

    @property
    def contents(self) -> dict[str, Any] | None:
        """The resolved contents of what it reads (`results.contents`); None of an earlier identity, which had none."""
        return readers.record(self.path / "trial.json", readers.TRIAL).get("contents")

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: commit, versions, revisions, hardware, prompt hashes."""
        return readers.record(self.path / "provenance.json", readers.PROVENANCE)

    @property
    def complete(self) -> bool:
        """Whether the trial has ended and its result is written."""
        return (self.path / "result.json").exists()

    @property
    def launch(self) -> Launch:
        """What its last launch left beside the results."""
        return Launch(self.path)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl. A number that is not finite is written as null."""
        append_line(self.path / "metrics.jsonl", finite(row))

    def metrics(self) -> pd.DataFrame:
        """Logged steps in order. The last row of a step wins; a last line that a kill cut short is dropped."""
        rows = {row["step"]: row for row in readers.metrics(self.path / "metrics.jsonl")}
        return pd.DataFrame([rows[step] for step in sorted(rows)]) if rows else pd.DataFrame(columns=["step"])

    def logged(self, *, since: float) -> bool:
        """Whether a step was logged after a time."""
        return written_since(self.path / "metrics.jsonl", since)

    def truncate_metrics(self, step: int) -> None:
        """Forget the logged steps after `step`: a resumed trial writes them again."""
        if (self.path / "metrics.jsonl").exists():
            rows = [row for row in readers.metrics(self.path / "metrics.jsonl") if row["step"] <= step]
            write_bytes(self.path / "metrics.jsonl", b"".join(map(line_of, rows)))

    def add_evals(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Merge rows into evals.parquet; a row replaces the one of the same step, evaluator, split, arm and reading."""
        merged: dict[tuple[Any, ...], Mapping[Any, Any]] = {
            tuple(row[key] for key in EVAL_KEYS): dict(row) for row in self.evals().to_dict("records")
        }
        for row in rows:
            missing = [key for key in EVAL_KEYS if key not in row]
            assert not missing, f"a row of evals without {missing}"
            merged[tuple(row[key] for key in EVAL_KEYS)] = row
        table = pd.DataFrame([merged[key] for key in sorted(merged, key=lambda key: key[:3])])
        columns = [column for column in EVAL_COLUMNS if column in table]
        write_frame(self.path / "evals.parquet", table[[*columns, *(c for c in table if c not in columns)]])

    def evals(self) -> pd.DataFrame:
        """One row for each (step, evaluator, split, arm, reading), by step; arms and readings as they were first written."""
        path = self.path / "evals.parquet"
        return readers.evals(path) if path.exists() else pd.DataFrame(columns=EVAL_COLUMNS)

    def alone(self) -> AbstractContextManager[None]:
        """Hold its rows: who would add to them as well waits."""
        return alone(self.path / ".rows.lock")

    def write_samples(self, evaluator: str, split: str, step: int, frame: pd.DataFrame) -> None:
        """Write the sample rows of one evaluation, a row for each problem and arm."""
        write_frame(self._samples_path(evaluator, split, step), frame)

    def write_conditioning(self, evaluator: str, frame: pd.DataFrame) -> None:
        """Write what the soft tokens of the best checkpoint look like from inside (evaluation.conditioning says the rows)."""
        write_frame(self._conditioning_path(evaluator), frame)

    def has_conditioning(self, evaluator: str) -> bool:
        """Whether it was written."""
        return self._conditioning_path(evaluator).exists()

    def conditioning(self) -> pd.DataFrame:
        """What was written of it, a row for each (evaluator, kind, index)."""
        found = []
        for path in sorted(self.path.glob("samples/*/conditioning.parquet")):
            table = readers.table(path, readers.CONDITIONING)
            found.append(table[CONDITIONING].assign(evaluator=path.parent.name))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["evaluator", *CONDITIONING])

    def samples(self, evaluator: str, split: str, step: int, *, text: bool = True) -> pd.DataFrame | None:
        """The sample rows of one evaluation, or None; without `text` the completions stay on disk."""
        path = self._samples_path(evaluator, split, step)
        return readers.samples(path, without=() if text else TEXTS) if path.exists() else None

    def sampled(self) -> list[tuple[str, str, int]]:
        """(evaluator, split, step) of every evaluation whose samples are kept."""
        found = []
        for path in self.path.glob("samples/*/*/step_*.parquet"):
            if match := STEP.fullmatch(path.stem):
                found.append((path.parts[-3], path.parts[-2], int(match[1])))
        return sorted(found)

    def _conditioning_path(self, evaluator: str) -> Path:
        return self.path / "samples" / evaluator / "conditioning.parquet"

    def _samples_path(self, evaluator: str, split: str, step: int) -> Path:
        return self.path / "samples" / evaluator / split / f"step_{step:06d}.parquet"

    def checkpoints(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        folder = self.path / "checkpoints"
        paths = folder.iterdir() if folder.is_dir() else ()
        return sorted(int(match[1]) for path in paths if (match := STEP.fullmatch(path.name)))

    def checkpoint_path(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.path / "checkpoints" / f"step_{step:06d}"

    def write_checkpoint(self, step: int, files: Mapping[str, bytes]) -> None:
        """Write a checkpoint as a whole: its folder appears when every file is in it."""
        final = self.checkpoint_path(step)
        building = final.with_name(f".{final.name}{LEFTOVER}")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            for name, content in files.items():
                write_bytes(building / name, content)
        except OSError:
            shutil.rmtree(building, ignore_errors=True)
            raise
        self._drop(step)  # killed here, the trial resumes one checkpoint earlier
        building.rename(final)

    def keep_checkpoints(self, steps: set[int]) -> None:
        """Delete all checkpoints but these."""
        for step in self.checkpoints():
            if step not in steps:
                self._drop(step)

    def _drop(self, step: int) -> None:
        """Delete a checkpoint. It is renamed first: half deleted it must not look complete."""
        final = self.checkpoint_path(step)
        if final.exists():
            dropped = final.with_name(f".dropped_{final.name}{LEFTOVER}")
            shutil.rmtree(dropped, ignore_errors=True)
            final.rename(dropped)
            shutil.rmtree(dropped)

    def failure(self) -> str | None:
        """The sentence that says why the trial ended without a result, if it was left."""
        return None if self.complete else self.launch.why()

    def write_trained(self, told: Mapping[str, Any]) -> None:
        """Write trained.json: its training has ended, and only its test split is left."""
        write_record(self.path / "trained.json", told)

    def trained(self) -> dict[str, Any] | None:
        """What its training came to, or None while it goes on. Gone once the trial is complete: its result says it."""
        path = self.path / "trained.json"
        return readers.record(path, readers.TRAINED) if path.exists() else None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json, the last file of a trial: it is complete from then on."""
        write_record(self.path / "result.json", result)
        (self.path / "trained.json").unlink(missing_ok=True)

    def result(self) -> dict[str, Any] | None:
        """What the trial came to, or None while it has not ended."""
        if not self.complete:
            return None
        path = self.path / "result.json"
        told = readers.record(path, readers.RESULT)
        for name in CHOSEN:
            if told.get(name) is None and _chooses(self.config):
                raise ValueError(f"{path}: {name} is missing; it is damaged, or of another version of raybridge")
        return told


def _chooses(config: Mapping[str, Any]) -> bool:
    """Whether a resolved trial picks one of its checkpoints on dev: one of a translator, but for earlier runs."""
    return "evaluator" in config and not config.get("imported")
