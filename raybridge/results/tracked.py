"""What a tracker has been told of a trial, so that no launch tells it twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raybridge.results import readers
from raybridge.results.files import write_record


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
        try:
            content = readers.record(self._told, readers.TOLD)
        except ValueError as error:
            raise ValueError(f"{error}; delete the file, and the tracker is told from the start") from None
        return Told(run=content["run"], steps=content.get("steps") or {})

    def tell(self, told: Told) -> None:
        """Keep how far it has been told."""
        write_record(self._told, asdict(told))
