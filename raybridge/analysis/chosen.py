"""The checkpoint that dev chose: it is the one that is tested, and its dev score the one that ranks.

The peak over a trial's evaluations is another number, and may be of another checkpoint: it ranks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from raybridge.analysis.kinds import bridge, ordered


def dev_score(result: Mapping[str, Any], evals: pd.DataFrame) -> float:
    """Dev accuracy at `best_step` by the first reading; NaN where no checkpoint was chosen on dev.

    evals: rows of evals.parquet of the trial, which tell it of results without the key `best`.
    """
    if result.get("best") is not None:
        return float(result["best"])
    rows = evals[(evals["split"] == "dev") & (evals["step"] == result.get("best_step"))]
    own = ordered(rows["arm"], bridge)
    return float(rows.loc[rows["arm"] == own[0], "accuracy"].iloc[0]) if own else math.nan
