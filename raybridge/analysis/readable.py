"""What of a results folder can be read, and what is wrong with the rest of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from raybridge.errors import unknown
from raybridge.results import Results, TrialRun


@dataclass(frozen=True)
class Readable:
    """The plans and the trials of a results folder, or of one sweep, each read once: itself, or a sentence."""

    results: Results
    sweep: str | None = None

    @cached_property
    def plans(self) -> dict[str, dict[str, Any] | str]:
        """The plan of each sweep, or what is wrong with it."""
        read: dict[str, dict[str, Any] | str] = {}
        for folder in self.results.sweeps():
            try:
                read[folder.name] = folder.plan() or {}
            except ValueError as error:
                read[folder.name] = str(error)
        return read

    @cached_property
    def named(self) -> dict[str, dict[str, str]]:
        """What each sweep calls the trials that it asked for, by fingerprint."""
        whole = {sweep: plan for sweep, plan in self.plans.items() if not isinstance(plan, str)}
        return {sweep: {one["fingerprint"]: one["name"] for one in plan.get("trials", [])} for sweep, plan in whole.items()}

    @cached_property
    def opened(self) -> tuple[list[TrialRun], dict[str, str]]:
        """The trials on disk, and what is wrong with those that cannot be opened, by directory name."""
        broken: dict[str, str] = {}
        return self.results.trials(broken), broken

    @cached_property
    def trials(self) -> dict[str, tuple[TrialRun, pd.DataFrame | str]]:
        """Every trial that was asked for with its evaluations, or with what is wrong with its files, by fingerprint."""
        if self.sweep is not None and isinstance(why := self.plans.get(self.sweep), str):
            raise ValueError(why)
        if self.sweep is not None and self.sweep not in self.named:
            raise unknown("sweep", self.sweep, self.named, where=str(self.results.root))
        found = {run.fingerprint: run for run in self.opened[0]}
        asked = found if self.sweep is None else self.named[self.sweep]
        read: dict[str, tuple[TrialRun, pd.DataFrame | str]] = {}
        for run in (found[fingerprint] for fingerprint in asked if fingerprint in found):
            try:
                _ = run.provenance, run.result()
                read[run.fingerprint] = run, run.evals()
            except ValueError as error:
                read[run.fingerprint] = run, str(error)
        return read

    @cached_property
    def broken(self) -> dict[str, str]:
        """What cannot be read, and why: trials by fingerprint or directory name, plans by their sweep."""
        told = {name: read for name, (_, read) in self.trials.items()} | self.opened[1] | self.plans
        return {name: read for name, read in told.items() if isinstance(read, str)}
