"""What a signal asks of a sweep: Ctrl-C (SIGINT), and SIGTERM, which batch systems send before they kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raybridge.results.sweep_folder import SweepFolder

CALLED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
SAME = 2.0  # seconds within which a second SIGTERM is the first: `timeout` sends one to the command and one to its group


@contextmanager
def stoppable(folder: SweepFolder, resume: str, *, say: Callable[[str], None]) -> Iterator[None]:
    """One signal asks every trial to checkpoint and end, through the folder that its workers see; a second ends at once.

    resume: what to type to go on.
    """
    folder.go_on()
    asked = 0.0

    def stop(signum: int, frame: object) -> None:
        nonlocal asked
        if folder.stopped():
            if signum == signal.SIGTERM and time.monotonic() - asked < SAME:
                return
            say(f"ended at once. To go on: {resume}")
            os._exit(130)
        folder.stop()
        asked = time.monotonic()
        say(f"stopping: each trial saves a checkpoint first ({CALLED[signal.Signals(signum)]} again ends at once)")

    before = {number: signal.signal(number, stop) for number in CALLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heed_sigterm() -> None:
    """Take SIGTERM as Ctrl-C is taken. Each start of Ray takes it away, and would abort this process with a C++ stack."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
