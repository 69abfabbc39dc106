"""Trials that differ in their seed alone, and the A/A band that they span."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from raybridge.config import fingerprint, identified
from raybridge.results import Results
from raybridge.statistics import aa_band

REPLICATES = "replicates"  # the sweep whose trials differ in their seed alone


def group_of(config: Mapping[str, Any], contents: Mapping[str, Any] | None = None) -> str:
    """The identity of a resolved trial without its name and its seed. contents: None of an earlier identity."""
    told = {key: value for key, value in config.items() if key not in ("name", "seed")}
    return fingerprint(identified(told | ({"contents": dict(contents)} if contents else {})))[:16]


def band_of(rows: pd.DataFrame, score: str = "accuracy") -> float | None:
    """The A/A band of a score of trials, a row each with its `group`; None where no two differ in their seed alone."""
    return aa_band(*(part[score].tolist() for _, part in rows.groupby("group", sort=False)))


def band_told(band: float | None, seeds: Iterable[int]) -> str:
    """The A/A band of a test accuracy in words, or why there is none. seeds: how many each configuration has."""
    if band is not None and not math.isnan(band):
        return f"A/A band: {band:.3f} of test accuracy"
    if max(seeds, default=0) > 1:
        return "No A/A band: it cannot be estimated from two seeds in all"
    return "No A/A band: no two trials differ in their seed alone"


def bands_of_replicates(results: Results, on: str, split: str, arm: str) -> dict[str, float]:
    """The A/A band of an arm by each reading, from a sweep named `replicates`; empty where there is none.

    Each of its trials counts with its best step on dev.
    """
    tables = [pd.DataFrame(columns=["reading"])]
    for asked in (results.sweep(REPLICATES).plan() or {}).get("trials", []):
        run = results.find(asked["fingerprint"])
        if run is None or (result := run.result()) is None:
            continue
        rows = run.evals()
        rows = rows[(rows["evaluator"] == on) & (rows["split"] == split) & (rows["arm"] == arm)]
        tables.append(rows[rows["step"] == result["best_step"]].assign(group=group_of(run.config, run.contents)))
    evals = pd.concat([table for table in tables if len(table)] or tables)
    bands = {str(reading): band_of(rows) for reading, rows in evals.groupby("reading", sort=False)}
    return {reading: band for reading, band in bands.items() if band is not None}
