"""A driver's end comes behind what its workers reported."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

import pytest
from ray.exceptions import RayActorError

from raybridge.cluster import reports


class Thread:
    """Tune's of a driver: it brings reports from a queue of all to its own, which holds one, and empties that."""

    def __init__(self, taking: float) -> None:
        self.reports: queue.Queue = queue.Queue(1)
        self.own: queue.Queue = queue.Queue(1)
        self.seen: list = []
        self.taking = taking
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while "end" not in self.seen:
            try:
                report = self.reports.get(timeout=0.01)
                time.sleep(self.taking)
                self.own.put(report)
            except queue.Empty:
                pass
            with contextlib.suppress(queue.Empty):
                self.seen.append(self.own.get(timeout=0.01))

    def waits_for_itself(self) -> bool:
        """Whether the end is not seen though there is time enough."""
        self.own.put("end", timeout=1)
        time.sleep(0.5)
        return "end" not in self.seen


def test_an_end_that_overtakes_a_report_is_waited_for_for_good():
    """What is mended; ended here by taking the end away."""
    tune = Thread(taking=0.2)
    tune.reports.put("report")
    time.sleep(0.1)
    assert tune.waits_for_itself()
    assert tune.own.get_nowait() == "end"


def test_an_end_behind_what_was_handed_on_is_seen():
    tune = Thread(taking=0.05)
    tune.reports.put("one")
    tune.reports.put("two")
    reports.wait_for(tune.reports)
    assert not tune.waits_for_itself()
    assert tune.seen == ["one", "two", "end"]


def test_what_nobody_takes_is_given_up(monkeypatch):
    monkeypatch.setattr(reports, "PATIENCE", 0.1)
    left: queue.Queue = queue.Queue(1)
    left.put("report")
    reports.wait_for(left)
    assert left.empty()


def test_a_queue_that_is_lost_changes_no_end(monkeypatch, caplog):
    class Lost:
        def empty(self):
            raise RayActorError

    monkeypatch.setattr(reports, "get_session", lambda: type("Session", (), {"_inter_actor_queue": Lost()})())
    reports.handed_on()
    assert "reported last is not known to have reached Tune" in caplog.text


@pytest.mark.parametrize("session", [None, type("Session", (), {"_inter_actor_queue": None})()])
def test_where_nobody_reports_nothing_is_waited_for(session, monkeypatch):
    monkeypatch.setattr(reports, "get_session", lambda: session)
    monkeypatch.setattr(reports, "wait_for", lambda _: pytest.fail("there is nothing to wait for"))
    reports.handed_on()
