"""Scaling: how much of the gap to the text each model pair recovers as the number of soft tokens grows.

For each pair and K the configuration that was best on dev, whichever sweep it came from; seeds averaged.
"""

from __future__ import annotations

import math

import pandas as pd

from raybridge.plots import LOOKS, TEXT_LINE, Figure, Runs, arm_look, legend, n_of, points, seeds_of

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PANEL = ["pair", "evaluator"]
ARMS = ("bridged", "shuffled")


def table(runs: Runs) -> pd.DataFrame:
    best = runs.best_on_dev(runs.test[runs.test["arm"] == "bridged"]).drop_duplicates(["fingerprint", "evaluator"])
    rows = []
    for (pair, evaluator, k, label), part in best.groupby([*PANEL, "K", "label"]):
        for arm in ARMS:
            found = [runs.gaps(one, str(evaluator)).get(arm) for one in part["fingerprint"]]
            known = pd.DataFrame([gap for gap in found if gap is not None], columns=["gap", "gap_low", "gap_high"])
            if len(known):
                row = {"pair": pair, "evaluator": evaluator, "K": k, "label": label, "arm": arm, **known.mean()}
                rows.append({**row, "n": part["n"].max(), "seeds": len(known), "fingerprint": " ".join(part["fingerprint"])})
    return pd.DataFrame(rows)


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
        f"{n_of(rows['n'])} test problems, {seeds_of(rows['seeds'])}. Bars: 95%, delta method over problems. Gap recovered: 0 "
        "is no question, 1 is the question as text. At each K the configuration that was best on dev." + hollow
    )
