"""What a tracker has been told of a trial, so that no launch tells it twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raybridge.results.files import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Told:
    """How far a tracker has been told. run: what it calls the trial's run; steps: by series, the last step that it has."""

    run: str
    steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackedTrial:
    """What is kept for one tracker of one trial: trackers/<tracker>/<trial>/."""

    path: Path

    @property
    def _told(self) -> Path:
        return self.path / "told.json"

    def told(self) -> Told | None:
        """How far it has been told, or None where it never was."""
        if not self._told.exists():
            return None
        content = read_json(self._told, needs=("run", "steps"))
        if not isinstance(content["steps"], dict):
            raise ValueError(f"{self._told}: steps must be an object; delete the file, and the tracker is told from the start")
        return Told(run=str(content["run"]), steps=content["steps"])

    def tell(self, told: Told) -> None:
        """Keep how far it has been told."""
        write_json(self._told, asdict(told))
