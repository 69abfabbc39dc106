"""The pocket benchmark with exemplars, which the pocket pair does without."""

from __future__ import annotations

from dataclasses import dataclass

from evaluators.pocket import Pocket
from raybridge.data import Problem


@dataclass(frozen=True, kw_only=True)
class Shown(Pocket):
    """Two of its train problems stand before every question."""

    def exemplars(self) -> list[Problem]:
        return self.problems("train")[:2]
