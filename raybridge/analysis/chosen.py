"""The arm that a trial was trained for, and the checkpoint that dev chose by it: that one is tested, and its dev score ranks.

The peak over a trial's evaluations is another number, and may be of another checkpoint: it ranks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from raybridge.analysis.kinds import beside_text, bridge, is_a, ordered


def judged_by(result: Mapping[str, Any], labels: Iterable[str]) -> str:
    """The arm that a trial was selected, stopped and is ranked by, as its result says.

    labels: arms that it was evaluated with, of which a result that does not say is judged by the first bridge.
    """
    return str(result.get("arm") or next(iter(ordered(labels, bridge)), "bridged"))


def dev_score(result: Mapping[str, Any], evals: pd.DataFrame) -> float:
    """Dev accuracy at `best_step` by the first reading; NaN where no checkpoint was chosen on dev.

    evals: rows of evals.parquet of the trial, which tell it of results without the key `best`.
    """
    if result.get("best") is not None:
        return float(result["best"])
    rows = evals[(evals["split"] == "dev") & (evals["step"] == result.get("best_step"))]
    own = rows.loc[rows["arm"] == judged_by(result, rows["arm"]), "accuracy"]
    return float(own.iloc[0]) if len(own) else math.nan


def rank_of(dev: float, arm: str) -> float:
    """What a configuration is chosen by among others: its dev score, and before it what that was measured with.

    Accuracies beside the question's text are no ones of soft tokens alone, and never chosen before those. What was not chosen
    on dev comes last.
    """
    if math.isnan(dev):
        return -1.0
    return dev if is_a(arm, beside_text) else 2.0 + dev
