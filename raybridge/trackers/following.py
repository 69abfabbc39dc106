"""Trackers told what a launch writes to disk, while it writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from raybridge.errors import reason_of
from raybridge.results import Results, TrialRun
from raybridge.results.tracked import Told, TrackedTrial
from raybridge.trackers import series
from raybridge.trackers.tracker import Ended, Panel, Run, Tracked, Tracker

EVERY = 2.0  # seconds between two looks at the disk


class Named(Protocol):
    """What can be followed."""

    @property
    def fingerprint(self) -> str:
        """Its identity."""


@dataclass
class Open:
    """A trial's run in a tracker, and what it has been told. id: of a run that an earlier launch began."""

    kept: TrackedTrial
    id: str | None
    steps: dict[str, int]
    run: Run | None = None
    shown: list[Panel] = field(default_factory=list)


@dataclass
class Following:
    """Trackers and the trials that they are told of. say: is told at once of one that fails. lost: why, by its name."""

    trackers: Sequence[Tracker]
    results: Results
    sweep: str
    say: Callable[[str], None] = lambda told: None
    lost: dict[str, str] = field(default_factory=dict)
    _trials: dict[str, None] = field(default_factory=dict)  # fingerprints, in order
    _open: dict[tuple[str, str], Open] = field(default_factory=dict)
    _closed: set[tuple[str, str]] = field(default_factory=set)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, trials: Iterable[Named]) -> None:
        """Follow these as well. What an earlier launch left of them is told too."""
        with self._alone:
            self._trials |= dict.fromkeys(trial.fingerprint for trial in trials)

    def look(self) -> None:
        """Tell what is new on disk. A trial that has ended is told once more, and its run closed."""
        with self._alone:
            for tracker in self.trackers:
                for fingerprint in self._trials:
                    if (tracker.name, fingerprint) not in self._closed:
                        self._try(tracker, partial(self._tell, tracker, fingerprint))

    def attach(self, reports: Sequence[Path]) -> None:
        """Add the reports of the sweep, once everything before them is told."""
        self.look()
        for tracker in self.trackers:
            self._try(tracker, partial(tracker.attach, reports, self.sweep))

    def end(self) -> None:
        """Tell the rest and close every run."""
        self.look()
        for tracker in self.trackers:
            for fingerprint in self._trials:
                if (tracker.name, fingerprint) in self._open:
                    self._try(tracker, partial(self._close, tracker, fingerprint))

    def complaint(self) -> str:
        """What was not told, in a sentence."""
        why = "; ".join(f"{name} ({sentence})" for name, sentence in self.lost.items())
        return f"not everything was told to {why}; results are whole, and the same command tells the rest"

    def _try(self, tracker: Tracker, act: Callable[[], None]) -> None:
        """Do something with a tracker. One that fails is told no more: a sweep does not end because a server is away."""
        if tracker.name in self.lost:
            return
        try:
            act()
        except Exception as error:  # whatever its package raises
            self.lost[tracker.name] = f"{type(error).__name__}: {reason_of(error)}"
            self.say(f"{tracker.name} is told no more: {self.lost[tracker.name]}")

    def _tell(self, tracker: Tracker, fingerprint: str) -> None:
        if (run := self.results.find(fingerprint)) is None:
            return
        over = run.complete  # asked first: what is written before result.json is then on disk
        one = self._open.get((tracker.name, fingerprint)) or self._kept(tracker, run)
        fresh = series.news(series.points(run), one.steps)
        if one.run is None and over and not fresh:  # an earlier launch has told all of it
            self._closed.add((tracker.name, fingerprint))
            return
        begun = one.run = one.run or tracker.begin(self._tracked(tracker, run), one.id)
        one.id = begun.id
        self._open[tracker.name, fingerprint] = one
        if fresh:
            begun.log(fresh)
            one.steps |= {name: point.step for point in fresh for name in point.values}
        one.kept.tell(Told(run=begun.id, steps=one.steps))
        if (panels := series.panels(run)) != one.shown:
            begun.show(panels)
            one.shown = panels
        if over:
            self._close(tracker, fingerprint)

    def _close(self, tracker: Tracker, fingerprint: str) -> None:
        one = self._open.pop((tracker.name, fingerprint))
        self._closed.add((tracker.name, fingerprint))
        if one.run is not None:
            one.run.end(ended(self.results.find(fingerprint)))

    def _tracked(self, tracker: Tracker, run: TrialRun) -> Tracked:
        folder = self.results.tracked(tracker.name) / run.path.name
        return Tracked(name=run.name, fingerprint=run.fingerprint, sweep=self.sweep, config=run.config, folder=folder)

    def _kept(self, tracker: Tracker, run: TrialRun) -> Open:
        """What an earlier launch told of a trial."""
        kept = TrackedTrial(self.results.tracked(tracker.name) / run.path.name)
        before = kept.told()
        return Open(kept=kept, id=before.run if before else None, steps=dict(before.steps) if before else {})


def ended(run: TrialRun | None) -> Ended:
    """How a trial stands when its launch is over."""
    if run is not None and run.complete:
        return "complete"
    return "failed" if run is not None and run.launch.failed() else "interrupted"


@contextmanager
def following(
    trackers: Sequence[Tracker], results: Results, *, sweep: str, say: Callable[[str], None] = lambda told: None
) -> Iterator[Following]:
    """Trackers told every few seconds of the trials that are followed, and of the rest at the end.

    say: is told where to look, and of a tracker that fails. RuntimeError at the end for one that did.
    """
    told, over = Following(trackers, results, sweep, say), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            told.look()

    thread = threading.Thread(target=watch, name="trackers", daemon=True)
    if trackers:
        thread.start()
    for tracker in trackers:
        say(f"{tracker.name}: {tracker.where()}")
    try:
        yield told
    finally:
        over.set()
        if trackers:
            thread.join()
        told.end()
    if told.lost:
        raise RuntimeError(told.complaint())
