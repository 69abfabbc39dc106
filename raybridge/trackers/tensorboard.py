"""TensorBoard: event files, a directory a trial, written by tensorboardX, which is without torch and comes with Ray Tune."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import custom_scalars, hparams, scalar, text

from raybridge.trackers.tracker import Ended, Panel, Point, Tracked


@dataclass
class Events:
    """A trial's directory of event files; a launch adds one file, and TensorBoard reads them as one run."""

    folder: Path
    writer: SummaryWriter
    shown: list[list[str]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.folder.name

    def log(self, points: Sequence[Point]) -> None:
        """Add scalars."""
        for point in points:
            for name, value in point.values.items():
                self.writer.file_writer.add_summary(scalar(name, value), point.step)
        self.writer.flush()

    def show(self, panels: Sequence[Panel]) -> None:
        """Lay out the Custom Scalars page: TensorBoard draws the lines from the scalars, whose names it takes as patterns."""
        series = [panel.series() for panel in panels]
        if series == self.shown:
            return
        self.shown = series
        layout: dict[str, dict[str, list[object]]] = {}
        for panel, names in zip(panels, series, strict=True):
            split, _, measure = panel.title.partition("/")
            title = f"{measure}: {' and '.join(panel.lines)}"
            layout.setdefault(split, {})[title] = ["Multiline", [f"^{re.escape(name)}$" for name in names]]
        self.writer.file_writer.add_summary(custom_scalars(layout))
        self.writer.flush()

    def end(self, ended: Ended) -> None:
        """Close the file."""
        self.writer.close()


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """folder: TensorBoard's log directory."""

    folder: Path
    name: str = "tensorboard"

    def begin(self, trial: Tracked, run: str | None) -> Events:
        """A trial's event files; a new run has its config in HParams and Text."""
        mark = f".{time.time_ns()}"  # else two launches of one second would write one file
        events = Events(trial.folder, SummaryWriter(str(trial.folder), filename_suffix=mark))
        if run is None:
            start = hparams(trial.flat(), {})[:2]  # the third would say that it has ended
            told = text("config", f"```json\n{json.dumps(trial.config, indent=1, ensure_ascii=False)}\n```")
            for summary in (*start, told):
                events.writer.file_writer.add_summary(summary, 0)
        return events

    def attach(self, reports: Sequence[Path], sweep: str) -> None:
        """The summary as text, in a run of the sweep's name. A page cannot be shown there, and is named."""
        with SummaryWriter(str(self.folder / sweep)) as writer:
            for report in reports:
                told = report.read_text(encoding="utf8") if report.suffix == ".md" else f"`{report}`"
                writer.file_writer.add_summary(text(report.stem, told), 0)

    def where(self) -> str:
        """What to type."""
        return f"tensorboard --logdir {shlex.quote(str(self.folder))}"
