"""Questions and gold answers behind sample rows, from the benchmark that a trial names, where it can be had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybridge.analysis.labels import name_of
from raybridge.config import rebuild
from raybridge.data import Problem, Split


def problems_of(config: Mapping[str, Any], evaluator: str, split: Split) -> dict[str, Problem]:
    """The problems of a resolved trial's benchmark by id.

    ValueError where the benchmark is not the trial's own, is of another version, or is not on this machine.
    """
    asked = config.get("evaluator")
    if not asked or name_of(asked) != evaluator:
        raise ValueError(f"the trial says nothing of how {evaluator} was set up")
    return {problem.id: problem for problem in rebuild(asked).problems(split)}
