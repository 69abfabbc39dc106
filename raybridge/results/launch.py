"""What a launch of a trial leaves beside its results: its log, why it ended without a result, and when it did what."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from raybridge.results import readers
from raybridge.results.files import write_record, written_since

WAIT = 1.0  # seconds between two looks at who holds a trial


@dataclass(frozen=True, kw_only=True)
class Begun:
    """When what of a launch was, in seconds since the epoch; None where it was not.

    started: its driver began or, where that waited for the devices of another trial, these were free. trained: its workers had
    ended.
    """

    started: float
    first_step: float | None
    trained: float | None = None


@dataclass(frozen=True, kw_only=True)
class Timing(Begun):
    """The same of a launch that completed its trial, and when that was."""

    ended: float


@dataclass(frozen=True)
class Launch:
    """The last launch of the trial in this directory."""

    path: Path

    @property
    def log(self) -> Path:
        """train.log: what its first worker did, and every worker's failure."""
        return self.path / "train.log"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _failure(self) -> Path:
        return self.path / "failure.json"

    @property
    def _timing(self) -> Path:
        return self.path / "timing.json"

    @contextmanager
    def held(self, *, unless: Callable[[], bool]) -> Iterator[bool]:
        """Hold the trial, alone; who would run it too waits until it is let go, or its holder dies, and yields True then.

        unless: asked while it waits, and False is yielded once it says so.
        """
        with self._lock.open("a") as file:
            while not _locked(file):
                if unless():
                    yield False
                    return
                time.sleep(WAIT)
            yield True

    def busy(self) -> bool:
        """Whether somebody holds it."""
        with self._lock.open("a") as file:
            return not _locked(file)

    def begin(self) -> None:
        """Forget why the launch before this one failed."""
        self._failure.unlink(missing_ok=True)

    def fail(self, why: str, *, traceback: str) -> None:
        """Write failure.json: a sentence for the command and what a developer wants to see."""
        write_record(self._failure, {"sentence": why, "traceback": traceback})

    def failed(self, *, since: float = 0.0) -> bool:
        """Whether it said why it failed, after a time."""
        return written_since(self._failure, since)

    def why(self) -> str | None:
        """The sentence that says why it failed, if it was left."""
        return str(readers.record(self._failure, readers.FAILURE)["sentence"]) if self.failed() else None

    def write_timing(self, timing: Begun) -> None:
        """Write timing.json."""
        write_record(self._timing, asdict(timing))

    def end(self, now: float) -> None:
        """Say that the trial is complete, of a launch that has said when it began."""
        begun = self.begun()
        assert begun is not None, f"nothing in {self.path} says when its launch began"
        self.write_timing(Timing(**(vars(begun) | {"ended": now})))

    def begun(self) -> Begun | None:
        """When it did what so far, or None: only a launch that trained its trial says so."""
        if not self._timing.exists():
            return None
        told = readers.record(self._timing, readers.TIMING)
        begun = Begun(started=told["started"], first_step=told.get("first_step"), trained=told.get("trained"))
        return begun if told.get("ended") is None else Timing(**vars(begun), ended=told["ended"])

    def timing(self) -> Timing | None:
        """When it did what, or None: only a launch that completes its trial says so."""
        begun = self.begun()
        return begun if isinstance(begun, Timing) else None


def _locked(file: IO[str]) -> bool:
    """Take the lock of an open file, which its closing gives back, if nobody has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
