"""What a tracker is told, and what it must offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Ended = Literal["complete", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Values by series at a step."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Series that belong side by side: an arm and the control that it must beat. lines: by arm the value at each step."""

    title: str
    lines: Mapping[str, Mapping[int, float]]

    def series(self) -> list[str]:
        """The series' names, as points have them."""
        return [f"{self.title}/{arm}" for arm in self.lines]


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A trial as trackers know it. config: resolved, nested. folder: where what a tracker keeps of it on disk belongs."""

    name: str
    fingerprint: str
    sweep: str
    config: Mapping[str, Any]
    folder: Path

    def flat(self) -> dict[str, str | float | bool]:
        """The config by dotted names; what is no plain value is its text, None is left out."""
        return dict(_flat(self.config, ""))


class Run(Protocol):
    """A trial's run in a tracker."""

    @property
    def id(self) -> str:
        """What a later launch finds it by."""

    def log(self, points: Sequence[Point]) -> None:
        """Add points; no series gets a step twice."""

    def show(self, panels: Sequence[Panel]) -> None:
        """Draw panels as they stand, in place of those before."""

    def end(self, ended: Ended) -> None:
        """Close it."""


class Tracker(Protocol):
    """A way to follow a launch elsewhere."""

    @property
    def name(self) -> str:
        """What `--log-to` calls it."""

    def begin(self, trial: Tracked, run: str | None) -> Run:
        """A trial's run. run: the id of the one that an earlier launch began; None for a new one."""

    def attach(self, reports: Sequence[Path], sweep: str) -> None:
        """Add the reports of a sweep: its summary as Markdown, and its page."""

    def where(self) -> str:
        """Where to look, or what to type to look, in one sentence."""


def _flat(value: Any, above: str) -> list[tuple[str, str | float | bool]]:
    if isinstance(value, Mapping):
        return [one for key, inner in value.items() for one in _flat(inner, f"{above}.{key}" if above else str(key))]
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        return [one for number, inner in enumerate(value) for one in _flat(inner, f"{above}.{number}")]
    if value is None:
        return []
    return [(above, value if isinstance(value, str | float | int | bool) else str(value))]
