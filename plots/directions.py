"""Directions: a bridge from one model to another against the bridge back, at the same number of soft tokens.

A row for each (two models, benchmark, K, direction, arm), seeds averaged: of the configurations that both directions have, but
for the layers that are read, the one that was best on dev in their mean. The text ceiling is the target's own, so the two
directions have two; gap recovered can be compared across them.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import (
    LOOKS,
    TEXT_LINE,
    Axes,
    Figure,
    Runs,
    each_seed,
    gaps_by_seed,
    intervals_of,
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
ASIDE = (0.97, 1.03)  # of K, where each direction is drawn: neither hides the other


def table(runs: Runs) -> pd.DataFrame:
    test = runs.test[runs.test["arm"].isin(ARMS) & ~runs.test["fingerprint"].isin(imported(runs))]
    if test.empty:
        return pd.DataFrame()
    test = of_first_reading(test)
    ends = test["pair"].str.split(" to ", n=1)
    test = test.assign(models=ends.map(lambda two: " and ".join(sorted(two))), recipe=test["fingerprint"].map(recipes(runs)))
    rows = in_both(test[ends.str[0] != ends.str[1]], runs.trials.set_index("fingerprint")["rank"])
    if rows.empty:
        return pd.DataFrame()
    models = rows.drop_duplicates("label").set_index("label")["models"]
    rows = over_seeds(runs, rows)
    rows["models"] = rows["label"].map(models)
    gaps = [mean_gap(runs, row) for row in rows.to_dict("records")]
    rows[["gap", "gap_low", "gap_high"]] = pd.DataFrame(gaps, index=rows.index, dtype=float)
    rows["gap_by_seed"] = [gaps_by_seed(runs, row) for row in rows.to_dict("records")]
    columns = [*PANEL, "pair", "K", "label", "arm", "accuracy", "low", "high", "by_seed", "gap", "gap_low", "gap_high"]
    return rows[[*columns, "gap_by_seed", "nll", "n", "seeds", "fingerprint"]].sort_values(
        [*PANEL, "pair", "arm", "K"], ignore_index=True
    )


def recipes(runs: Runs) -> dict[str, str]:
    """What a trial is apart from its name, its seed, its models and the layers that it reads of them, by fingerprint."""
    apart = ("config.name", "config.seed", "config.source", "config.target")
    fields = [str(name) for name in runs.trials if str(name).startswith("config.") and name not in apart]
    same = [name for name in fields if not name.endswith(".layers")]
    return {row["fingerprint"]: "|".join(str(row[name]) for name in same) for row in runs.trials.to_dict("records")}


def in_both(rows: pd.DataFrame, rank: pd.Series) -> pd.DataFrame:
    """At each K the rows of the recipe that both directions have and that ranks highest on dev in their mean."""
    at = [*PANEL, "K"]
    rows = rows[rows.groupby([*at, "recipe"])["pair"].transform("nunique") == 2]
    scores = rows["fingerprint"].map(rank).astype(float)
    means = rows.assign(rank=scores).groupby([*at, "recipe"])["rank"].mean().reset_index()
    best = means.sort_values("rank", ascending=False, kind="stable").drop_duplicates(at)
    return rows.merge(best[[*at, "recipe"]], on=[*at, "recipe"])


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
    for look, aside, (pair, part) in zip(LOOKS, ASIDE, rows.groupby("pair"), strict=False):
        part = part.assign(K=part["K"] * aside)
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
        ax.set_xlim(rows["K"].min() / 1.25, rows["K"].max() * 1.25)
        ax.set_xlabel("soft tokens K")
    left.set_ylim(-0.03, 1.03)
    left.set_ylabel("test accuracy")
    right.set_ylabel("gap recovered (NLL)")
    right.set_ylim(max(-1.0, right.get_ylim()[0]), 1.1)
    legend(figure, [left], ncols=1)


def curve(left: Axes, right: Axes, part: pd.DataFrame, look: dict, *, hollow: bool) -> None:
    """Accuracy on the left, gap recovered on the right."""
    points(left, part["K"], part["accuracy"], part["low"], part["high"], look=look, hollow=hollow)
    each_seed(left, part["K"], part["by_seed"], look=look)
    known = part.dropna(subset=["gap"])
    points(right, known["K"], known["gap"], known["gap_low"], known["gap_high"], look=look, hollow=hollow)
    each_seed(right, known["K"], known["gap_by_seed"], look=look)


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    return (
        f"{n_of(part['n'])} test problems of {part['evaluator'].iloc[0]}, {seeds_of(part['seeds'])}. Bars: "
        f"{intervals_of(part['seeds'])}, bootstrap for the gap; small points: seeds. Dotted across: each "
        "target reading the text itself (left), the "
        "question as text (right). Hollow: shuffled soft tokens, the control. At each K both directions have the same "
        "configuration, but for the layers that are read; of several, the best on dev."
    )
