"""What workers report on its way to Tune, which a trial's driver must not overtake with its end.

Of a driver's two threads Tune's brings reports from a queue of all to one of its own, which holds one and which it alone
empties. The driver's end goes there as well: where it comes first, that thread waits for itself for good, and so does a sweep.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from ray.exceptions import RayError
from ray.train._internal.session import get_session
from ray.util.queue import Empty

LOOK = 0.2  # seconds between two looks
ARRIVES = 1.0  # seconds within which a report that was taken from one queue is in the other, on a busy machine too
PATIENCE = 10.0  # seconds until what Tune does not take is given up: it is ending itself


log = logging.getLogger(__name__)


class Reports(Protocol):
    """A queue of reports, such as Ray's."""

    def empty(self) -> bool:
        """Whether none is there."""

    def get_nowait(self) -> Any:
        """The next; raises `Empty` where none is there."""


def handed_on() -> None:
    """Wait until Tune has taken what the workers of this driver reported; there are none that still report."""
    reports = getattr(get_session(), "_inter_actor_queue", None)
    if reports is None:
        return
    try:
        wait_for(reports)
    except RayError as error:  # the queue has gone with its node or its cluster: how the workers ended counts, not this
        log.warning("what the workers reported last is not known to have reached Tune: %s", error)


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
