"""What workers report on its way to Tune, which a trial's driver must not overtake with its end.

Of a driver's two threads Tune's brings reports from a queue of all to one of its own, which holds one and which it alone
empties. The driver's end goes there as well: where it comes first, that thread waits for itself for good, and so does a sweep.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from ray.train._internal.session import get_session
from ray.util.queue import Empty

LOOK = 0.2  # seconds between two looks
ARRIVES = 1.0  # seconds within which a report that was taken from one queue is in the other, on a busy machine too
PATIENCE = 10.0  # seconds until what Tune does not take is given up: it is ending itself


class Reports(Protocol):
    """A queue of reports, such as Ray's."""

    def empty(self) -> bool:
        """Whether none is there."""

    def get_nowait(self) -> Any:
        """The next; raises `Empty` where none is there."""


def handed_on() -> None:
    """Wait until Tune has taken what the workers of this driver reported; there are none that still report."""
    session = get_session()
    reports = session and session._inter_actor_queue
    if reports is not None:
        wait_for(reports)


def wait_for(reports: Reports) -> None:
    """Wait until reports are taken, and a little for the last of them to arrive. What nobody takes is dropped."""
    ended = time.monotonic() + PATIENCE
    while not reports.empty() and time.monotonic() < ended:
        time.sleep(LOOK)
    while not reports.empty():
        try:
            reports.get_nowait()
        except Empty:
            break
    time.sleep(ARRIVES)
