"""Which trials a person means: by a name, a pattern of names, or how a fingerprint begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from raybridge.analysis.runs import Runs
from raybridge.errors import unknown

SHORTEST = 6  # characters by which a fingerprint is known


def only(runs: Runs, asked: Sequence[str]) -> Runs:
    """The same view of the trials that are asked for. ValueError names what is asked for and not there.

    asked: names of trials, what figures call them, patterns of either (`*`, `?`), or beginnings of fingerprints.
    """
    trials = runs.trials.to_dict("records")
    chosen: set[str] = set()
    for one in asked:
        found = {trial["fingerprint"] for trial in trials if _is_meant(trial, one)}
        if not found:
            raise unknown("trial", one, sorted({trial["label"] for trial in trials}), where=str(runs.results.root))
        chosen |= found
    return replace(runs, chosen=frozenset(chosen))


def _is_meant(trial: Mapping[Any, Any], asked: str) -> bool:
    names = {trial["trial"], trial["label"]}
    by_print = len(asked) >= SHORTEST and trial["fingerprint"].startswith(asked)
    return asked in names or by_print or any(fnmatchcase(name, asked) for name in names)
