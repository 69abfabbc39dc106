"""Directions: a bridge from one model to another against the bridge back, at the same number of soft tokens.

A row for each (two models, benchmark, K, direction, arm): of each direction the configuration that was best on dev, seeds
averaged. The text ceiling is the target's own, so the two directions have two; gap recovered can be compared across them.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import (
    LOOKS,
    TEXT_LINE,
    Axes,
    Figure,
    Runs,
    legend,
    mean_gap,
    n_of,
    of_first_reading,
    over_seeds,
    points,
    seeds_of,
)

NEEDS = "python -m raybridge.sweep sweeps/swap.py"
ARMS = ("bridged", "shuffled", "target")
PANEL = ["models", "evaluator"]


def table(runs: Runs) -> pd.DataFrame:
    test = runs.test[runs.test["arm"].isin(ARMS) & ~runs.test["fingerprint"].isin(imported(runs))]
    if test.empty:
        return pd.DataFrame()
    rows = over_seeds(runs.best_on_dev(of_first_reading(test)))
    ends = rows["pair"].str.split(" to ", n=1)
    rows["models"] = ends.map(lambda two: " and ".join(sorted(two)))
    both = rows[ends.str[0] != ends.str[1]].groupby([*PANEL, "K"])["pair"].transform("nunique") == 2
    rows = rows.loc[both.index[both]]
    if rows.empty:
        return pd.DataFrame()
    gaps = [mean_gap(runs, row) for row in rows.to_dict("records")]
    rows[["gap", "gap_low", "gap_high"]] = pd.DataFrame(gaps, index=rows.index, dtype=float)
    columns = [*PANEL, "pair", "K", "label", "arm", "accuracy", "low", "high", "gap", "gap_low", "gap_high", "nll"]
    return rows[[*columns, "n", "seeds", "fingerprint"]].sort_values([*PANEL, "pair", "arm", "K"], ignore_index=True)


def imported(runs: Runs) -> set[str]:
    """Runs from elsewhere: nobody chose them on dev."""
    return set(runs.trials.loc[runs.trials["imported"], "fingerprint"])


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Two models on one benchmark: those with most K."""
    return max((part for _, part in rows.groupby(PANEL)), key=lambda part: part["K"].nunique())


def height(rows: pd.DataFrame) -> float:
    return 2.4


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    rows = shown(rows)
    left, right = figure.subplots(1, 2)
    for look, (pair, part) in zip(LOOKS, rows.groupby("pair"), strict=False):
        for arm in ("bridged", "shuffled"):
            mine = part[part["arm"] == arm]
            control = {"linestyle": ":", "linewidth": 0.8, "label": f"{pair}, shuffled"} if arm == "shuffled" else {}
            curve(left, right, mine, look | {"label": pair} | control, hollow=arm == "shuffled")
        text = part.loc[part["arm"] == "target", "accuracy"].mean()
        left.axhline(text, **TEXT_LINE | {"color": look["color"]})
    right.axhline(1, **TEXT_LINE)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(rows["K"].unique()), [f"{k:.0f}" for k in sorted(rows["K"].unique())])
        ax.minorticks_off()
        ax.set_xlabel("soft tokens K")
    left.set_ylim(-0.03, 1.03)
    left.set_ylabel("test accuracy")
    right.set_ylabel("gap recovered (NLL)")
    right.set_ylim(max(-1.0, right.get_ylim()[0]), 1.1)
    legend(figure, [left], ncols=1)


def curve(left: Axes, right: Axes, part: pd.DataFrame, look: dict, *, hollow: bool) -> None:
    """Accuracy on the left, gap recovered on the right."""
    points(left, part["K"], part["accuracy"], part["low"], part["high"], look=look, hollow=hollow)
    known = part.dropna(subset=["gap"])
    points(right, known["K"], known["gap"], known["gap_low"], known["gap_high"], look=look, hollow=hollow)


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    return (
        f"{n_of(part['n'])} test problems of {part['evaluator'].iloc[0]}, {seeds_of(part['seeds'])}. Bars: 95%, Wilson for "
        "accuracy, delta method over problems for the gap. Dotted across: each target reading the text itself (left), the "
        "question as text (right). Hollow: shuffled soft tokens, the control. At each K the configuration that was best on dev."
    )
