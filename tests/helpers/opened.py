"""A trial opened for writing, and what a folder holds: what the tests of results share."""

from __future__ import annotations

from pathlib import Path

from raybridge.results import EVAL_COLUMNS, Results, TrialRun

PRINT = "0123456789abcdef" * 4


def opened(root: Path, *, name: str = "one", fingerprint: str = PRINT) -> TrialRun:
    return Results(root).open_trial(name=name, fingerprint=fingerprint, config={"steps": 5}, provenance={"commit": "abc"})


def eval_row(**changes):
    row = dict.fromkeys(EVAL_COLUMNS, 0) | {"step": 250, "evaluator": "gsm8k", "split": "dev", "arm": "bridged"}
    return row | {"reading": "strict", "n": 200, "accuracy": 0.5} | changes


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it and nothing is tidied up."""
