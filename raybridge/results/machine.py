"""What has been found out about a machine: how much of a batch it takes at once. Found once, and kept beside the results.

It is no part of any identity: where a file is deleted, it is found again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybridge.config import fingerprint
from raybridge.results import readers
from raybridge.results.files import write_bytes


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A device under one kind of work. facts: the device, its memory, and what of the work decides what it needs."""

    root: Path
    facts: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self.root / "machines" / f"{fingerprint(self.facts)[:16]}.json"

    def fits(self) -> tuple[int, bool] | None:
        """Problems that a pass of the target takes, and whether its layers must be recomputed; None where it is not known."""
        if not self.path.exists():
            return None
        try:
            kept = readers.record(self.path, readers.MACHINE)
        except ValueError as error:
            raise ValueError(f"{error}; delete it") from None
        problems, recomputed = kept["problems"], kept["recomputed"]
        if type(problems) is not int or problems < 1 or type(recomputed) is not bool:
            raise ValueError(f"{self.path} has {problems!r} for problems and {recomputed!r} for recomputed; delete it")
        return problems, recomputed

    def keep(self, problems: int, *, recomputed: bool) -> None:
        """Write down what fits. Several workers may: the last one counts, and the others find out again."""
        content = {**self.facts, "problems": problems, "recomputed": recomputed}
        write_bytes(self.path, json.dumps(content, indent=1).encode() + b"\n", mark=f".{os.getpid()}")
