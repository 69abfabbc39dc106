"""Trials that differ in their seed alone, and the A/A band that they span."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
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


def band_of(rows: pd.DataFrame, score: str = "accuracy", *, beside: pd.DataFrame | None = None) -> float | None:
    """The A/A band of a score: from trials, a row each with its `group`, and from the `replicates` beside them.

    None where neither tells it: then nothing ranks configurations.
    """
    others = [] if beside is None else [beside[~beside["fingerprint"].isin(rows["fingerprint"])]]
    groups = [part for table in (rows, *others) for _, part in table.groupby("group", sort=False)]
    return aa_band(*(part[score].tolist() for part in groups))


def band_told(band: float | None, seeds: Iterable[int]) -> str:
    """The A/A band of a test accuracy in words, or why there is none. seeds: how many each configuration has."""
    if band is not None and not math.isnan(band):
        return f"A/A band: {band:.3f} of test accuracy"
    if max(seeds, default=0) > 1:
        return "No A/A band: it cannot be estimated from two seeds in all"
    return "No A/A band: no two trials differ in their seed alone"


def unranked(seeds: Iterable[int]) -> str:
    """What stands in the place of a verdict between configurations where no A/A band is known."""
    return "one seed each" if max(seeds, default=0) <= 1 else "too few seeds"


def replicates(
    results: Results,
    *,
    on: str,
    split: str,
    arms: Collection[str],
    reading: str | None = None,
    like: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Rows of evals.parquet of an arm of the sweep `replicates`, each trial at its best step on dev, with `group`.

    arms: the one; of several none, for what accuracies of one arm spread says nothing of another's. like: a resolved trial;
    only those of its two models, where it is given.
    """
    tables = []
    arm = next(iter(arms)) if len(set(arms)) == 1 else None
    for asked in (results.sweep(REPLICATES).plan() or {}).get("trials", []):
        run = results.find(asked["fingerprint"])
        if run is None or (result := run.result()) is None:
            continue
        if like is not None and any(run.config.get(model) != like.get(model) for model in ("source", "target")):
            continue
        rows = run.evals()
        rows = rows[(rows["evaluator"] == on) & (rows["split"] == split) & (rows["arm"] == arm)]
        rows = rows[rows["step"] == result["best_step"]]
        rows = rows if reading is None else rows[rows["reading"] == reading]
        tables.append(rows.assign(group=group_of(run.config, run.contents), fingerprint=run.fingerprint))
    columns = ["fingerprint", "group", "reading", "accuracy"]
    return (
        pd.concat([pd.DataFrame(columns=columns), *tables])[columns] if any(map(len, tables)) else pd.DataFrame(columns=columns)
    )


def bands_of_replicates(
    results: Results, on: str, split: str, arm: str, *, like: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """The A/A band of an arm by each reading, from a sweep named `replicates`; empty where there is none. like: as there."""
    rows = replicates(results, on=on, split=split, arms={arm}, like=like)
    bands = {str(reading): band_of(part) for reading, part in rows.groupby("reading", sort=False)}
    return {reading: band for reading, band in bands.items() if band is not None}
