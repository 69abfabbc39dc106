"""Seeds of one configuration: their mean with an interval of two levels, problems within seeds, and each of them beside it.

One seed tests a checkpoint: its interval is over problems alone. From three seeds on it is over both, of the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raybridge.analysis.runs import Runs
from raybridge.results.schema import MEANS
from raybridge.statistics import ENOUGH_SEEDS, two_level_interval

KEYS = ["label", "pair", "K", "evaluator", "split", "arm", "reading"]


def over_seeds(runs: Runs, evals: pd.DataFrame) -> pd.DataFrame:
    """Evaluations on test with the seeds of each group averaged; `fingerprint` holds those of all seeds; `seeds` counts them.

    low, high: of two levels from three seeds on, else the mean of the ends of their own intervals. by_seed: the accuracy of
    each, in the order of `fingerprint`.
    """
    means = [name for name in MEANS if name in evals]
    grouped = evals.groupby(KEYS, sort=False, dropna=False)
    table = grouped[means].mean(numeric_only=False)
    table["seeds"] = grouped["fingerprint"].nunique()
    table["n"] = grouped["n"].max()
    table["fingerprint"] = grouped["fingerprint"].agg(lambda prints: " ".join(sorted(prints)))
    placed = evals.assign(place=grouped.ngroup()).sort_values("fingerprint", kind="stable")
    table["by_seed"] = placed.groupby("place")["accuracy"].agg(lambda scores: joined(list(scores))).to_numpy()
    table = table.reset_index()
    several = table["seeds"] >= ENOUGH_SEEDS
    for place, row in table[several].iterrows():
        scores = seeds_by_problem(runs, row.to_dict())
        if scores.shape[1] and np.ptp(scores.mean(1)) > 0:  # arms without a translator are the same in every seed
            low, high = two_level_interval(scores)
            table.loc[place, ["low", "high"]] = max(low, 0.0), min(high, 1.0)
    return table


def seeds_by_problem(runs: Runs, row: Mapping[Any, Any]) -> NDArray[np.float64]:
    """(S, n): scores of an arm by seed and problem, a row of it for each in `fingerprint`, on problems that all answered."""
    return aligned(scores_of(runs, one, row) for one in row["fingerprint"].split())


def scores_of(runs: Runs, fingerprint: str, row: Mapping[Any, Any]) -> pd.Series:
    """Score of each problem by a row's arm and reading."""
    found = runs.by_arm(fingerprint, row["evaluator"]).get(row["arm"])
    return pd.Series(dtype=float) if found is None else found[f"score_{row['reading']}"]


def aligned(columns: Iterable[pd.Series]) -> NDArray[np.float64]:
    """(S, n): series by problem as rows, on the problems that all have."""
    return pd.concat(list(columns), axis=1).dropna().to_numpy(dtype=float).T


def mean_gap(runs: Runs, row: Mapping[Any, Any]) -> tuple[float, float, float]:
    """Gap recovered by an arm and the ends of its interval, mean over the seeds in `fingerprint`; NaN where not measured.

    From three seeds on the interval has two levels.
    """
    prints = row["fingerprint"].split()
    known = [gap for one in prints if (gap := runs.gaps(one, row["evaluator"]).get(row["arm"])) is not None]
    if not known:
        return math.nan, math.nan, math.nan
    middle, low, high = map(float, np.mean(known, axis=0))
    if len(known) >= ENOUGH_SEEDS and np.ptp([gap[0] for gap in known]) > 0:
        parts = [runs.gap_parts(one, row["evaluator"]).get(row["arm"]) for one in prints]
        there = [part for part in parts if part is not None]
        floor = pd.concat([part["gap"] for part in there], axis=1).dropna()
        closed = aligned(part["closed"].reindex(floor.index) for part in there)
        low, high = two_level_interval(closed, over=floor.iloc[:, 0])
    return middle, low, high


def gaps_by_seed(runs: Runs, row: Mapping[Any, Any]) -> str:
    """Gap recovered by each seed in `fingerprint`."""
    found = [runs.gaps(one, row["evaluator"]).get(row["arm"]) for one in row["fingerprint"].split()]
    return joined([gap[0] for gap in found if gap is not None])


def joined(numbers: Sequence[float]) -> str:
    """Numbers of several seeds as one cell; of one seed, or of seeds that are all the same, nothing: the mean says it."""
    return " ".join(f"{one:.6g}" for one in numbers) if len(set(numbers)) > 1 else ""
