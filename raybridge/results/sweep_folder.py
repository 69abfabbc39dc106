"""The folder of a sweep: what it asked for, and what was written about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybridge.results.files import read_json, write_bytes, write_json


@dataclass(frozen=True)
class SweepFolder:
    """What is on disk of one sweep: sweeps/<sweep>/."""

    path: Path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    @property
    def tune_path(self) -> Path:
        """Where Ray Tune keeps its own state."""
        return self.path / "tune"

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write plan.json: the trials that the sweep asks for."""
        self.write_json("plan.json", plan)

    def plan(self) -> dict[str, Any] | None:
        """The plan, or None where the sweep was never launched."""
        path = self.path / "plan.json"
        return read_json(path) if path.exists() else None

    def question(self) -> str | None:
        """What the sweep asks, once its summary is written."""
        path = self.path / "EXPERIMENTS_SUMMARY.md"
        paragraphs = path.read_text(encoding="utf8").split("\n\n") if path.exists() else []
        return paragraphs[1] if len(paragraphs) > 1 else None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the sweep."""
        write_bytes(self.path / name, text.encode())

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the sweep."""
        write_json(self.path / name, content)
