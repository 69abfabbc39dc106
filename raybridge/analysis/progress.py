"""What a sweep is doing, read from its results on disk: one row a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import JustifyMethod
from rich.table import Table

from raybridge.results import Results
from raybridge.trial import Trial

State = Literal["waiting", "training", "testing", "complete", "failed"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial in the live table. None: not known yet."""

    name: str
    step: int
    steps: int
    state: State
    loss: float | None = None
    tokens_per_second: float | None = None
    dev: tuple[float, float, float] | None = None  # accuracy, low, high
    shuffled: float | None = None
    seconds_left: float | None = None

    def words(self) -> list[str]:
        """The row as cells; a dash where nothing is known."""
        dev = "-" if self.dev is None else f"{self.dev[0]:.3f} [{self.dev[1]:.2f}, {self.dev[2]:.2f}]"
        return [
            self.name,
            f"{self.step}/{self.steps}",
            _number(self.loss, ".3f"),
            _number(self.tokens_per_second, ",.0f"),
            dev,
            _number(self.shuffled, ".3f"),
            self.state,
            "-" if self.seconds_left is None else f"{self.seconds_left:.0f} s",
        ]


HEADINGS = ("trial", "step", "loss", "tokens/s", "dev accuracy", "shuffled", "state", "left")
NARROW = 100  # columns


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def row_of(trial: Trial, results: Results, *, since: float = 0.0) -> Row:
    """Where a trial stands. What an earlier launch left, before the time `since`, says how far it came, not what it does."""
    run = results.find(trial.fingerprint)
    if run is None:
        return Row(name=trial.name, step=0, steps=trial.steps, state="waiting")
    metrics, evals = run.metrics(), run.evals()
    result = run.result()
    step = int(result["steps"]) if result else int(metrics["step"].iloc[-1]) if len(metrics) else 0
    dev = evals[(evals["split"] == "dev") & (evals["reading"] == trial.evaluator.readings[0])]
    bridged, shuffled = (dev[dev["arm"] == arm] for arm in ("bridged", "shuffled"))
    state: State = "training" if len(metrics) and run.logged(since=since) else "waiting"
    if result:
        state = "complete"
    elif run.launch.failed(since=since):
        state = "failed"
    elif step >= trial.steps and state == "training":
        state = "testing"
    rate = metrics["seconds"].iloc[-1] / step if step and state == "training" else None
    return Row(
        name=trial.name,
        step=step,
        steps=trial.steps,
        state=state,
        loss=float(metrics["loss"].iloc[-1]) if len(metrics) else None,
        tokens_per_second=float(metrics["tokens_per_second"].iloc[-1]) if len(metrics) and state != "waiting" else None,
        dev=tuple(bridged[["accuracy", "low", "high"]].iloc[-1]) if len(bridged) else None,
        shuffled=float(shuffled["accuracy"].iloc[-1]) if len(shuffled) else None,
        seconds_left=None if rate is None else float(rate * (trial.steps - step)),
    )


def table(rows: Sequence[Row], *, width: int = 160) -> Table:
    """The live table of a terminal. A narrow one leaves out what the log has as well; long names go on in the next line."""
    shown = [heading for heading in HEADINGS if width >= NARROW or heading not in ("loss", "tokens/s")]
    drawn = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in shown:
        justify: JustifyMethod = "left" if heading in ("trial", "state") else "right"
        drawn.add_column(heading, justify=justify, no_wrap=heading != "trial", overflow="fold")
    for row in rows:
        words = dict(zip(HEADINGS, row.words(), strict=True))
        drawn.add_row(*(words[heading] for heading in shown))
    return drawn


def changes(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Plain lines for a log file: a trial that changed its state or was evaluated again."""
    old = {row.name: row for row in before}
    return [
        line(row) for row in after if row.name not in old or (row.state, row.dev) != (old[row.name].state, old[row.name].dev)
    ]


def line(row: Row) -> str:
    """A row as a sentence of what is known."""
    _, _, loss, rate, dev, shuffled, _, left = row.words()
    said = [f"{row.name}: {row.state}", f"step {row.step} of {row.steps}"]
    if row.loss is not None:
        said.append(f"loss {loss}")
    if row.state == "training" and row.tokens_per_second is not None:
        said.append(f"{rate} tokens/s")
    if row.dev is not None:
        said.append(f"dev accuracy {dev} (shuffled {shuffled})")
    if row.seconds_left is not None:
        said.append(f"{left} left")
    return ", ".join(said)
