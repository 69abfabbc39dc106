"""What a sweep is doing, read from its results on disk: one row an experiment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pandas as pd
from rich import box
from rich.console import JustifyMethod
from rich.markup import escape
from rich.table import Table

from raybridge.console import one_line
from raybridge.results import Results, TrialRun
from raybridge.results.files import written_since
from raybridge.results.headline import Headline, Measured

State = Literal["waiting", "training", "testing", "complete", "failed"]
HEADLINE, CONTROL = "headline", "control"  # what these columns are called where the rows share no name for them
HEADINGS = ("trial", "step", "loss", "tokens/s", HEADLINE, CONTROL, "state", "left")
NARROW = 100  # columns of a terminal
BETWEEN = "starting training workers"  # what is done after one trial and before the next


class Followed(Protocol):
    """What can be followed: steps counts to its end, headline is the measure that its row shows."""

    @property
    def name(self) -> str:
        """What a row calls it."""

    @property
    def fingerprint(self) -> str:
        """Its identity."""

    @property
    def steps(self) -> int:
        """How many it takes."""

    @property
    def headline(self) -> Headline:
        """What it is followed by."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment in the live table. None: not known yet. measured: its headline."""

    name: str
    step: int
    steps: int
    state: State
    headline: Headline
    loss: float | None = None
    tokens_per_second: float | None = None
    measured: Measured | None = None
    seconds_left: float | None = None

    def cells(self) -> dict[str, str]:
        """The row by heading; a dash where nothing is known."""
        return {
            "trial": self.name,
            "step": f"{self.step}/{self.steps}",
            "loss": _number(self.loss, ".3f"),
            "tokens/s": _number(self.tokens_per_second, ",.0f"),
            HEADLINE: "-" if self.measured is None else _told(self.measured),
            CONTROL: "-" if self.measured is None else _number(self.measured.control, ".3f"),
            "state": self.state,
            "left": "-" if self.seconds_left is None else f"{self.seconds_left:.0f} s",
        }


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _told(measured: Measured) -> str:
    """A headline with its interval, if it has one."""
    low, high = measured.low, measured.high
    return f"{measured.value:.3f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")


def row_of(followed: Followed, results: Results, *, since: float = 0.0) -> Row:
    """Where it stands. What an earlier launch left, before the time `since`, says how far it came, not what it does."""
    run = results.find(followed.fingerprint)
    told, steps = followed.headline, followed.steps
    if run is None:
        return Row(name=followed.name, step=0, steps=steps, state="waiting", headline=told)
    metrics, result = run.metrics(), run.result()
    step = int(result["steps"]) if result else int(metrics["step"].iloc[-1]) if len(metrics) else 0
    state: State = "training" if len(metrics) and run.logged(since=since) else "waiting"
    if result:
        state = "complete"
    elif run.launch.failed(since=since):
        state = "failed"
    elif run.trained() or (step >= steps and state == "training"):
        state = "testing"
    spent = _last(metrics, "seconds") if step and state == "training" else None
    return Row(
        name=followed.name,
        step=step,
        steps=steps,
        state=state,
        headline=told,
        loss=_last(metrics, "loss"),
        tokens_per_second=_last(metrics, "tokens_per_second") if state != "waiting" else None,
        measured=told.of(run),
        seconds_left=None if spent is None else spent / step * (steps - step),
    )


def _last(metrics: pd.DataFrame, column: str) -> float | None:
    """The last value that was logged; None where none was."""
    if column not in metrics or not len(metrics) or pd.isna(metrics[column].iloc[-1]):
        return None
    return float(metrics[column].iloc[-1])


@dataclass
class Phase:
    """What the command does while no trial trains. since: seconds since the epoch; said: when a log was told last."""

    doing: str
    since: float
    said: float | None = None

    def __str__(self) -> str:
        return f"{self.doing}, {time.time() - self.since:.0f} s"

    def due(self, *, every: float) -> str | None:
        """A line for a log file: when it begins, and every so many seconds."""
        now = time.time()
        if self.said is not None and now - self.said < every:
            return None
        self.said = now
        return str(self)


def phase_of(rows: Sequence[Row], runs: Sequence[TrialRun | None], phases: list[Phase], *, launched: float) -> Phase | None:
    """The phase that a launch is in: the last that it told of or, once a worker has opened its log, that models load.

    None while a trial trains. runs: of the rows. phases: those so far, to which what is seen on disk is added.
    """
    states = {row.state for row in rows}
    if not phases:
        return None
    if states & {"training", "testing"}:  # what is waited for after it has a clock of its own
        phases[-1] = Phase(doing=BETWEEN, since=time.time())
        return None
    seen, pairs = None, zip(rows, runs, strict=True)
    if states <= {"complete", "failed"}:
        seen = "computing the arms that need no translator"
    elif any(row.state == "waiting" and run and written_since(run.launch.log, launched) for row, run in pairs):
        seen = "training workers load their models"
    if seen and phases[-1].doing != seen:
        phases.append(Phase(doing=seen, since=time.time()))
    return phases[-1]


def table(rows: Sequence[Row], *, width: int = 160, phase: Phase | None = None) -> Table:
    """The live table of a terminal. A narrow one leaves out what the log has as well; long names go on in the next line.

    The headline and its control have their own names where all rows share them.
    """
    names = {
        HEADLINE: _shared([row.headline.name for row in rows], HEADLINE),
        CONTROL: _shared([row.headline.control for row in rows], CONTROL),
    }
    cells = [row.cells() for row in rows]
    left_out = {"loss", "tokens/s"} if width < NARROW else set()
    hidden = f"{len(left_out)} more columns where the terminal is {NARROW} wide; the log has them"
    told = [*([] if phase is None else [str(phase)]), *([hidden] if left_out else [])]
    drawn = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), caption=escape("\n".join(told)) or None)
    drawn.caption_justify = "left"
    headings = [heading for heading in HEADINGS if heading not in left_out]
    for heading in headings:
        justify: JustifyMethod = "left" if heading in ("trial", "state") else "right"
        name = names.get(heading, heading)
        drawn.add_column(name, justify=justify, no_wrap=heading != "trial", overflow="fold")
    for row in cells:
        drawn.add_row(*(escape(one_line(row[heading])) for heading in headings))
    return drawn


def _shared(names: Sequence[str | None], otherwise: str) -> str:
    """The one name that all have; `otherwise` where they differ or have none."""
    return names[0] if len({*names}) == 1 and names[0] is not None else otherwise


def changes(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Plain lines for a log file: a trial that changed its state or was measured again."""
    old = {row.name: (row.state, row.measured) for row in before}
    return [line(row) for row in after if old.get(row.name) != (row.state, row.measured)]


def line(row: Row) -> str:
    """A row as a sentence of what is known."""
    cells = row.cells()
    said = [f"{row.name}: {row.state}", f"step {row.step} of {row.steps}"]
    if row.loss is not None:
        said.append(f"loss {cells['loss']}")
    if row.state == "training" and row.tokens_per_second is not None:
        said.append(f"{cells['tokens/s']} tokens/s")
    if row.measured is not None:
        control = row.headline.control
        said.append(f"{row.headline.name} {cells[HEADLINE]}" + (f" ({control} {cells[CONTROL]})" if control else ""))
    if row.seconds_left is not None:
        said.append(f"{cells['left']} left")
    return ", ".join(said)
