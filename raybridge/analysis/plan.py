"""What a sweep will do, before it does it: its trials as a table, which are there already, how long it may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import median
from types import MappingProxyType
from typing import Any, Protocol

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from raybridge.analysis.measures import stacked
from raybridge.analysis.progress import Followed
from raybridge.analysis.sweeps import duration
from raybridge.console import one_line
from raybridge.results import Results, TrialRun
from raybridge.results.find import by_config, why_anew
from raybridge.results.gaps import Gaps

ANEW = "runs: "  # and why, where a trial of the same config is there
NOT_KNOWN = "not known here"
REUSED = "complete, reused"
ALIKE = ("class", "source", "target", "evaluator", "batch")  # fields in which trials take about as long a step


class Planned(Followed, Protocol):
    """What can be planned, and then followed (`raybridge.trial.Workload` says what each is)."""

    def planned(self) -> Mapping[str, str]:
        """Its row: heading to text."""

    def resolved(self) -> Mapping[str, Any]:
        """All of it as JSON."""

    def gaps(self, run: TrialRun) -> Gaps:
        """What a complete run of it has lost."""


def plan_table(trials: Sequence[Planned], results: Results, dark: Mapping[str, str] = MappingProxyType({})) -> Table:
    """The expanded matrix: what each trial is, in words of its own, and whether it will run.

    dark: by name, why the contents of some are not known on this machine.
    """
    rows = [trial.planned() for trial in trials]
    common = shared(trials)
    own = dict.fromkeys(heading for row in rows for heading in row if heading not in common)
    kept = by_config(results.trials(broken={}))
    plans = [NOT_KNOWN if trial.name in dark else plan_of(trial, results, kept) for trial in trials]
    drawn = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in ("trial", "fingerprint", *own, "plan"):
        explained = heading == "plan" and any(plan.startswith(ANEW) for plan in plans)
        drawn.add_column(escape(heading), no_wrap=heading not in own and not explained)
    for trial, row, plan in zip(trials, rows, plans, strict=True):
        shown = "-" if trial.name in dark else trial.fingerprint[:8]
        drawn.add_row(*(escape(one_line(cell)) for cell in (trial.name, shown, *(row.get(one, "-") for one in own), plan)))
    return drawn


def shared(trials: Sequence[Planned]) -> dict[str, str]:
    """What several trials have in common of their rows in the plan: said once, not in every row."""
    rows = [trial.planned() for trial in trials]
    told = rows[0] if len(rows) > 1 else {}
    return {heading: text for heading, text in told.items() if all(row.get(heading) == text for row in rows)}


def plan_of(trial: Planned, results: Results, kept: Mapping[str, Sequence[TrialRun]]) -> str:
    """What will become of a trial; where one of the same config is there and cannot stand for it, why. kept: `by_config`."""
    run_ = results.find(trial.fingerprint)
    if run_ and run_.complete:
        return trial.gaps(run_).planned or REUSED
    if run_ and run_.trained():
        return "trained; its test split is left"
    if run_ and (steps := run_.checkpoints()):
        return f"resumes at step {steps[-1]}"
    why = [] if run_ else why_anew(trial.resolved(), kept)
    return f"{ANEW}{'; '.join(why)}" if why else "runs"


def unfinished(trial: Planned, run: TrialRun | None) -> bool:
    """Whether a trial has no result yet, or has lost something that its checkpoints give back."""
    return run is None or not run.complete or trial.gaps(run).mendable


def estimate(trials: Sequence[Planned], results: Results, *, at_once: int) -> str:
    """How long what is not complete may take, from complete trials of the same models, benchmark and batch; or that none tells.

    at_once: how many run beside one another.
    """
    found = [results.find(trial.fingerprint) for trial in trials]
    left = [trial for trial, run in zip(trials, found, strict=True) if run is None or not run.complete]
    if not left:
        return "every trial is complete"
    rates = rates_of(results)
    known = [rates.get(alike(trial.resolved())) for trial in left]
    told = [(trial.steps, rate) for trial, rate in zip(left, known, strict=True) if rate]
    if len(told) < len(left):
        return "no earlier trial of the same models, benchmark and batch tells how long it takes"
    longest = max(steps * median(rate) for steps, rate in told)
    hours = max(longest, sum(steps * median(rate) for steps, rate in told) / at_once) / 3600
    return f"about {duration(hours)} for {len(left)} trials, as long a step as {sum(map(len, rates.values()))} earlier took"


def rates_of(results: Results) -> dict[str, list[float]]:
    """Seconds a step of complete trials, those that are alike together: from start to end, evaluations included."""
    rates: dict[str, list[float]] = {}
    for run in results.trials(broken={}):
        with suppress(ValueError):  # of a trial that nobody asked for
            result, timing = run.result(), run.launch.timing()
            if result and result.get("steps") and timing:
                rates.setdefault(alike(run.config), []).append((timing.ended - timing.started) / result["steps"])
    return rates


def alike(config: Mapping[str, Any]) -> str:
    """In what trials are alike that take about as long a step."""
    return str([config.get(field) for field in ALIKE])


def expected(results: Results, arms: Sequence[str], *, evaluator: str, count: int) -> float | None:
    """Seconds that arms may take on so many problems, as evaluations on disk of this benchmark took; None where none tells.

    An arm of which nothing is known takes as long as the others do.
    """
    tables = []
    for run in results.trials(broken={}):
        with suppress(ValueError):  # of a trial that nobody asked for
            rows = run.evals()
            tables.append(rows[(rows["evaluator"] == evaluator) & rows["seconds"].gt(0)] if "seconds" in rows else rows.head(0))
    rows = stacked(pd.DataFrame(columns=["arm", "seconds", "n"]), *tables)
    rates = (rows["seconds"] / rows["n"]).groupby(rows["arm"]).median()
    known = [rates.get(arm, rates.mean()) for arm in arms]
    return float(sum(known) * count) if len(rates) else None
