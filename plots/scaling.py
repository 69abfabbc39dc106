"""Scaling: how much of the gap to the text each model pair recovers as the number of soft tokens grows.

For each pair and K the configuration that was best on dev, whichever sweep it came from; seeds averaged.
"""

from __future__ import annotations

import math

import pandas as pd

from raybridge.plots import (
    LOOKS,
    TEXT_LINE,
    Figure,
    Runs,
    arm_look,
    each_seed,
    gaps_by_seed,
    intervals_of,
    legend,
    mean_gap,
    n_of,
    points,
    seeds_of,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PANEL = ["pair", "evaluator"]
ARMS = ("bridged", "shuffled")


def table(runs: Runs) -> pd.DataFrame:
    alone = runs.trials.loc[runs.trials["judged_by"] == "bridged", "fingerprint"]  # others train what reads the text as well
    best = runs.best_on_dev(runs.test[runs.test["arm"].eq("bridged") & runs.test["fingerprint"].isin(alone)])
    best = best.drop_duplicates(["fingerprint", "evaluator"])
    rows = []
    for (pair, evaluator, k, label), part in best.groupby([*PANEL, "K", "label"]):
        own = {
            "pair": pair,
            "evaluator": evaluator,
            "K": k,
            "label": label,
            "fingerprint": " ".join(sorted(part["fingerprint"])),
        }
        for row in ({**own, "arm": arm} for arm in ARMS):
            gap, low, high = mean_gap(runs, row)
            told = {"gap": gap, "gap_low": low, "gap_high": high, "by_seed": gaps_by_seed(runs, row)}
            rows.append({**row, **told, "n": part["n"].max(), "seeds": len(part)})
    return pd.DataFrame(rows).dropna(subset=["gap"], ignore_index=True) if rows else pd.DataFrame()


def height(rows: pd.DataFrame) -> float:
    return 2.3


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    ax = figure.subplots()
    several = rows.groupby(PANEL).ngroups > 1
    for number, ((pair, evaluator), part) in enumerate(rows.groupby(PANEL)):
        look = LOOKS[number % len(LOOKS)]
        ring = {"linestyle": ":", "linewidth": 0.8, "markersize": 6}  # seen even around a bridge that is no better
        mine = ring if several else arm_look("shuffled") | {"label": "shuffled"}
        for arm, own in (("shuffled", look | mine), ("bridged", look | {"label": f"{pair}, {evaluator}"})):
            drawn = part[part["arm"] == arm].sort_values("K")
            hollow = several and arm == "shuffled"
            points(ax, drawn["K"], drawn["gap"], drawn["gap_low"], drawn["gap_high"], look=own, hollow=hollow)
            each_seed(ax, drawn["K"], drawn["by_seed"], look=own)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted(rows["K"].unique()), [f"{k:.0f}" for k in sorted(rows["K"].unique())])
    ax.minorticks_off()
    ax.axhline(1, **TEXT_LINE, label="question as text")
    ax.axhline(0, color="0.6", linewidth=0.6)
    bottom = rows["gap"].min()
    ax.set_ylim(max(-1.0, min(-0.1, bottom - 0.1 if math.isfinite(bottom) else -0.1)), 1.1)
    ax.set_xlabel("soft tokens K")
    ax.set_ylabel("gap recovered (NLL)")
    legend(figure, [ax], ncols=2, first=[f"{pair}, {evaluator}" for (pair, evaluator), _ in rows.groupby(PANEL)])


def caption(rows: pd.DataFrame) -> str:
    hollow = " Hollow, dotted: shuffled soft tokens, the control." if rows.groupby(PANEL).ngroups > 1 else ""
    return (
        f"{n_of(rows['n'])} test problems, {seeds_of(rows['seeds'])}. Bars: {intervals_of(rows['seeds'], 'bootstrap')}; "
        "small points: seeds. Gap recovered: 0 is no question, 1 is the question as text. "
        "At each K the configuration that was best on dev." + hollow
    )
