"""A trial opened for writing, and what a folder holds: what the tests of results share."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from raybridge.results import EVAL_COLUMNS, Results, TrialRun
from raybridge.results.files import CHECKSUM

PRINT = "0123456789abcdef" * 4


def plain(path: Path) -> dict:
    """A JSON file of results without its checksum: to change, and to write as another hand would."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != CHECKSUM}


def opened(root: Path, *, name: str = "one", fingerprint: str = PRINT) -> TrialRun:
    return Results(root).open_trial(
        name=name, fingerprint=fingerprint, config={"steps": 5}, provenance={"commit": {"id": "abc"}}
    )


ENDED = {
    **dict(steps=12, stopped="finished", reason="all 12 steps"),
    **dict(peak=0.5, peak_step=4, best_step=4, final=0.5, degradation=0.0, shuffled_dev_at_peak=0.0),
}  # what a result must say


def sample_rows(n: int = 1, **columns) -> pd.DataFrame:
    """Sample rows of an arm on problems."""
    rows = {"problem": [f"p/{number}" for number in range(n)], "arm": "bridged", "completion": "18"}
    return pd.DataFrame(rows | {"answer_strict": "18", "score_strict": 1.0} | columns)


def eval_row(**changes):
    row = dict.fromkeys(EVAL_COLUMNS, 0) | {"step": 250, "evaluator": "gsm8k", "split": "dev", "arm": "bridged"}
    return row | {"reading": "strict", "n": 200, "accuracy": 0.5} | changes


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it and nothing is tidied up."""
