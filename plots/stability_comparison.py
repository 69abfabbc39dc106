"""Stability: peak and final accuracy with and without the fixes, and whether the fall is more than noise.

A row for each trial. Peak against final on the same problems: exact McNemar p, corrected for the evaluations that both were
picked among (`statistics.picked`) and Holm-corrected over the trials shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from raybridge.plots import (
    BLACK,
    Figure,
    Runs,
    arm_look,
    counted,
    few,
    interval_of,
    kinds,
    legend,
    n_of,
    points,
    rest,
    without_control,
)
from raybridge.statistics import compare, corrected, picked

NEEDS = "python -m raybridge.sweep sweeps/stability.py"
SHOWN = 16


def table(runs: Runs) -> pd.DataFrame:
    """The trials of the sweep, and runs imported from elsewhere."""
    trials = runs.trials
    asked = runs.asked_by("stability")
    trials = trials[(trials["fingerprint"].isin(asked) | trials["imported"]) & trials["complete"]]
    rows: list[dict[str, Any]] = []
    compared = []
    for trial in trials.to_dict("records"):
        found = curve(runs, trial)
        if found is None:
            continue
        peak, final, where = found
        compared.append(picked(compare(peak, final), looks=where["looks"]))
        row: dict[str, Any] = {name: trial[name] for name in ("label", "trial", "fingerprint", "seed", "imported")} | where
        for name, scores in (("peak", peak), ("final", final)):
            low, high = interval_of(scores)
            row |= {name: scores.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append({**row, "n": len(peak), "stopped": trial["result.stopped"]})
    for row, one in zip(rows, corrected(compared), strict=True):
        low, high = one.interval
        row |= {"degradation": -one.difference, "degradation_low": -high, "degradation_high": -low}
        row |= {"p_holm": one.p, "lost": one.losses, "won": one.wins, "degraded": one.verdict == "worse"}
    return pd.DataFrame(rows).sort_values(["label", "seed"], ignore_index=True) if rows else pd.DataFrame()


def curve(runs: Runs, trial: Mapping[Any, Any]) -> tuple[pd.Series, pd.Series, dict[str, Any]] | None:
    """(scores at the peak, scores at the end, where) of a trial by its first reading, on the same problems."""
    split = "test" if trial["imported"] else "dev"
    evals = runs.first_readings
    mine = evals[(evals["fingerprint"] == trial["fingerprint"]) & (evals["split"] == split)]
    arm = trial["judged_by"]
    mine = mine[mine["arm"] == arm]
    if mine.empty:
        return None
    evaluator, reading = mine["evaluator"].iloc[-1], mine["reading"].iloc[-1]
    scores: list[pd.Series] = []
    shuffled = pd.Series(dtype=float)
    for step in (trial["result.peak_step"], mine["step"].max()):
        samples = runs.samples(trial["fingerprint"], evaluator, split, int(step))
        if samples is None:
            return None
        if not scores:
            shuffled = samples.loc[samples["arm"] == kinds.against(arm), f"score_{reading}"]
        scores.append(samples[samples["arm"] == arm].set_index("problem")[f"score_{reading}"])
    peak, final = scores[0].align(scores[1], join="inner")
    where = {"evaluator": evaluator, "split": split, "arm": arm, "peak_step": trial["result.peak_step"]}
    where["looks"] = mine["step"].nunique()
    low, high = interval_of(shuffled) if len(shuffled) else (None, None)
    control = {"shuffled": shuffled.mean(), "shuffled_low": low, "shuffled_high": high}
    return peak, final, where | {"final_step": mine["step"].max()} | control


def height(trials: pd.DataFrame) -> float:
    return 0.9 + 0.28 * min(len(trials), SHOWN)


def draw(figure: Figure, trials: pd.DataFrame) -> None:
    trials = trials.head(SHOWN)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for y, row in zip(range(0, -len(trials), -1), trials.to_dict("records"), strict=True):
        look = arm_look(row["arm"]) | {"linestyle": "none"}
        first = y == 0
        left.plot([row["peak"], row["final"]], [y + 0.14, y - 0.14], color="0.7", linewidth=0.6)
        for name, marker, shift in (("peak", "*", 0.14), ("final", "o", -0.14)):
            at = [[row[name]], [y + shift], [row[f"{name}_low"]], [row[f"{name}_high"]]]
            mine = look | {"marker": marker, "markersize": 5 if marker == "*" else 3.5, "label": name if first else None}
            points(left, *at, look=mine, across=True, hollow=name == "final")
        ends = [row["degradation_low"]], [row["degradation_high"]]
        colour = {"linestyle": "none", "marker": "D", "color": BLACK}
        points(right, [row["degradation"]], [y], *ends, look=colour, across=True, hollow=not row["degraded"])
    left.set_yticks(range(0, -len(trials), -1), names(trials))
    left.set_xlabel("accuracy")
    left.set_ylim(-len(trials) + 0.4, 0.6)
    control = arm_look("shuffled") | {"linestyle": "none", "label": "shuffled, at the peak"}
    there = trials.reset_index().dropna(subset=["shuffled"])
    if len(there):
        low, high = there["shuffled_low"], there["shuffled_high"]
        points(left, there["shuffled"], [0.14 - y for y in there["index"]], low, high, look=control, across=True)
    legend(figure, [left], ncols=3)
    right.axvline(0, color="0.5", linewidth=0.6)
    right.set_xlabel("peak minus final")
    for ax in (left, right):
        ax.grid(visible=False, axis="y")


def names(trials: pd.DataFrame) -> list[str]:
    """What to call each trial: its label, with the seed where several share it."""
    several = trials["label"].duplicated(keep=False)
    return [
        f"{label}\nseed {seed:.0f}" if shared else label
        for label, seed, shared in zip(trials["label"], trials["seed"], several, strict=True)
    ]


def caption(trials: pd.DataFrame) -> str:
    where = few([f"{split} of {evaluator}" for (split, evaluator), _ in trials.groupby(["split", "evaluator"])], "benchmarks")
    worse = int(trials["degraded"].sum())
    many = trials["label"].nunique()
    others = rest(SHOWN, len(trials), by="the first", what="trials")
    with_text = trials.loc[trials["arm"] == "bridged_with_text", "label"].unique()
    uncontrolled = trials.loc[trials["shuffled"].isna(), "label"].unique()
    return (
        f"{n_of(trials['n'])} problems ({where}). Bars: 95%, Wilson for accuracies, paired bootstrap for differences. Filled "
        f"diamonds: the fall is significant (exact McNemar, corrected for all pairs of evaluations and by Holm): {worse} of "
        f"{len(trials)}. The peak is the best of several looks: a small fall is no degradation."
        + (f" Ranked by bridged with text: {counted(with_text, of=many)}." if len(with_text) else "")
        + "".join(f" {sentence}" for sentence in (*without_control(uncontrolled, of=many), *others))
    )
