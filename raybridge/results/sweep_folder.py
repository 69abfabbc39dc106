"""The folder of a sweep: what it asked for, what was written about it, who runs it, and whether it is asked to stop."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybridge.results import readers
from raybridge.results.files import write_bytes, write_record

SMOKE = "smoke"  # the folder, below that of the results, where trials cut to a few steps have their own


@dataclass(frozen=True)
class SweepFolder:
    """What is on disk of one sweep: sweeps/<sweep>/."""

    path: Path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    @property
    def tune_path(self) -> Path:
        """Where Ray Tune keeps its own state."""
        return self.path / "tune"

    @property
    def train_path(self) -> Path:
        """Where Ray Train keeps its own state."""
        return self.path / "train"

    @property
    def lock_path(self) -> Path:
        """The file that whoever runs the sweep holds, and that says who it is."""
        return self.path / "lock"

    @property
    def _stop(self) -> Path:
        return self.path / "stop"

    @property
    def _going(self) -> Path:
        return self.path / "going"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sweep: a second launch is refused while this process lives."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock_path.open("a+", encoding="utf8") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.seek(0)
                raise ValueError(
                    f"sweep {self.name} is running already ({held.read().strip()}); wait for it or end it first"
                ) from None
            held.truncate(0)
            held.write(f"process {os.getpid()} on {socket.gethostname()}")
            held.flush()
            yield

    def stopped(self) -> bool:
        """Whether whoever runs a trial of the sweep is asked to save a checkpoint and end."""
        return self._stop.exists()

    def stop(self) -> None:
        """Ask for it, of every process that sees this folder. A full disk takes no new file, but lets one be renamed."""
        try:
            self._going.rename(self._stop)
        except FileNotFoundError:  # asked before, or nobody runs it
            self._stop.touch()

    def go_on(self) -> None:
        """Ask for it no more."""
        self._stop.unlink(missing_ok=True)
        self._going.touch()

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write plan.json: the trials that the sweep asks for."""
        self.write_json("plan.json", plan)

    def plan(self) -> dict[str, Any] | None:
        """The plan, or None where the sweep was never launched."""
        path = self.path / "plan.json"
        return readers.record(path, readers.PLAN) if path.exists() else None

    def question(self) -> str | None:
        """What the sweep asks, once its summary is written."""
        path = self.path / "EXPERIMENTS_SUMMARY.md"
        paragraphs = path.read_text(encoding="utf8").split("\n\n") if path.exists() else []
        return paragraphs[1] if len(paragraphs) > 1 else None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the sweep."""
        write_bytes(self.path / name, text.encode())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the sweep."""
        write_record(self.path / name, content)
