"""A signal asks a sweep to stop, and nobody else takes it."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from raybridge import sweep
from raybridge.cluster import signals
from raybridge.cluster.signals import stoppable
from raybridge.results import Results


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_asks_every_trial_to_stop_and_the_next_launch_asks_no_more(tmp_path, number):
    folder, before = Results(tmp_path).sweep("s"), [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with folder.locked(), stoppable(folder, "the same again", say=print):
        assert not folder.stopped()
        os.kill(os.getpid(), number)
        assert folder.stopped()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    with folder.locked(), stoppable(folder, "the same again", say=print):
        assert not folder.stopped()


def test_sigterm_asks_the_same_though_ray_takes_it_as_it_starts(tmp_path, trial, monkeypatch):
    @contextmanager
    def cluster(resources, *, name, models):
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("it went to Ray"))
        yield "off"

    def run_trials(waiting, *, folder, **_):
        os.kill(os.getpid(), signal.SIGTERM)
        return {waiting[0].fingerprint: "stopped"} if folder.stopped() else {}

    monkeypatch.setattr("raybridge.cluster.session.cluster", cluster)
    monkeypatch.setattr("raybridge.cluster.tuner.run_trials", run_trials)
    results = Results(tmp_path)
    folder, chosen = results.sweep("s"), SimpleNamespace(name="pocket", resources=None)
    with folder.locked(), stoppable(folder, "the same again", say=print):
        assert sweep.launch([trial], folder=folder, chosen=chosen, results=results) == {trial.fingerprint: "stopped"}


def test_a_second_signal_ends_at_once_but_timeout_which_sends_sigterm_twice(tmp_path, monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    folder = Results(tmp_path).sweep("s")
    with folder.locked(), stoppable(folder, "the same again", say=print):
        for number in (signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert (folder.stopped(), codes) == (True, [])
        monkeypatch.setattr(signals, "SAME", 0.0)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert codes == [130, 130]
