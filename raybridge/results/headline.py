"""The measure that an experiment is followed by, and where on disk it stands."""

from __future__ import annotations

from dataclasses import dataclass

from raybridge.results.trial_run import TrialRun


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A headline as it was measured last. low, high: its interval. control: what the arm that should fail came to."""

    value: float
    low: float | None = None
    high: float | None = None
    control: float | None = None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A measure of metrics.jsonl, or, where it is of an arm, of evals.parquet by a reading.

    name: as a table heads it. column: where it stands. control: the arm that it is shown beside.
    """

    name: str
    column: str
    arm: str | None = None
    control: str | None = None
    split: str = "dev"
    reading: str | None = None

    def of(self, run: TrialRun) -> Measured | None:
        """The last value on disk; None where none was written."""
        if self.arm is None:
            rows = run.metrics()
            known = rows[self.column].dropna() if self.column in rows else rows.get(self.column)
            return None if known is None or not len(known) else Measured(value=float(known.iloc[-1]))
        evals = run.evals()
        rows = evals[(evals["split"] == self.split) & (evals["reading"] == self.reading)]
        own, control = (rows[rows["arm"] == arm] for arm in (self.arm, self.control))
        if not len(own):
            return None
        last = own.iloc[-1]
        return Measured(
            value=float(last[self.column]),
            low=float(last["low"]),
            high=float(last["high"]),
            control=float(control[self.column].iloc[-1]) if len(control) else None,
        )
