"""Directions: a bridge from one model to another against the bridge back, at the same number of soft tokens.

A row for each (two models, benchmark, K, direction, arm), seeds averaged: of the configurations that both directions have, but
for the layers that are read, the one that was best on dev in their mean; `alike` is false where there is none, and each
direction has its own best. The text ceiling is the target's own, so the two directions have two; gap recovered can be compared
across them. Runs from elsewhere are compared among themselves.
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
    kinds,
    legend,
    mean_gap,
    n_of,
    of_first_reading,
    over_seeds,
    points,
    seeds_of,
    words,
)

NEEDS = "python -m raybridge.sweep sweeps/swap.py"
PANEL = ["models", "evaluator", "imported"]
ASIDE = (0.97, 1.03)  # of K, where each direction is drawn: neither hides the other


def table(runs: Runs) -> pd.DataFrame:
    test = runs.test[in_question(runs)]
    if test.empty:
        return pd.DataFrame()
    trials = runs.trials.set_index("fingerprint")
    test = of_first_reading(test).assign(imported=lambda rows: rows["fingerprint"].map(trials["imported"]))
    ends = test["pair"].str.split(" to ", n=1)
    test = test.assign(models=ends.map(lambda two: " and ".join(sorted(two))), recipe=test["fingerprint"].map(recipes(runs)))
    rows = in_both(test[ends.str[0] != ends.str[1]], trials["rank"])
    if rows.empty:
        return pd.DataFrame()
    of = rows.drop_duplicates("label").set_index("label")[["models", "imported", "alike"]]
    rows = over_seeds(runs, rows)
    rows[[*of]] = of.reindex(rows["label"]).to_numpy()
    rows = rows.astype({"imported": bool, "alike": bool})
    gaps = [mean_gap(runs, row) for row in rows.to_dict("records")]
    rows[["gap", "gap_low", "gap_high"]] = pd.DataFrame(gaps, index=rows.index, dtype=float)
    rows["gap_by_seed"] = [gaps_by_seed(runs, row) for row in rows.to_dict("records")]
    columns = [*PANEL, "pair", "K", "label", "arm", "accuracy", "low", "high", "by_seed", "gap", "gap_low", "gap_high"]
    return rows[[*columns, "gap_by_seed", "nll", "alike", "n", "seeds", "fingerprint"]].sort_values(
        [*PANEL, "pair", "arm", "K"], ignore_index=True
    )


def in_question(runs: Runs) -> pd.Series:
    """Of each row on test whether it is of the arm that ranks its trial, of that arm's control, or of the target."""
    own = runs.test["fingerprint"].map(runs.trials.set_index("fingerprint")["judged_by"])
    arm = runs.test["arm"]
    return (arm == own) | (arm == own.map(kinds.against)) | (arm == "target")


def recipes(runs: Runs) -> dict[str, str]:
    """What a trial is apart from its name, its seed, its models and the layers that it reads of them, by fingerprint."""
    apart = ("config.name", "config.seed", "config.source", "config.target")
    fields = [str(name) for name in runs.trials if str(name).startswith("config.") and name not in apart]
    same = [name for name in fields if not name.endswith(".layers")]
    return {row["fingerprint"]: "|".join(str(row[name]) for name in same) for row in runs.trials.to_dict("records")}


def in_both(rows: pd.DataFrame, rank: pd.Series) -> pd.DataFrame:
    """At each K of both directions: the rows of the recipe of both that ranks highest on dev in their mean, or of two."""
    at = [*PANEL, "K"]
    rows = rows[rows.groupby(at)["pair"].transform("nunique") == 2]
    if rows.empty:
        return rows
    rows = rows.assign(rank=rows["fingerprint"].map(rank).astype(float))
    rows = rows.assign(shared=rows.groupby([*at, "recipe"])["pair"].transform("nunique") == 2)
    rows = rows.assign(alike=rows.groupby(at)["shared"].transform("any"))
    same = best_recipe(rows[rows["alike"] & rows["shared"]], at)
    return pd.concat([same, best_recipe(rows[~rows["alike"]], [*at, "pair"])], ignore_index=True)


def best_recipe(rows: pd.DataFrame, at: list[str]) -> pd.DataFrame:
    """The rows of one recipe at each place."""
    means = rows.groupby([*at, "recipe"])["rank"].mean().reset_index()
    best = means.sort_values("rank", ascending=False, kind="stable").drop_duplicates(at)
    return rows.merge(best[[*at, "recipe"]], on=[*at, "recipe"])


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Two models on one benchmark: those with most K."""
    return max((part for _, part in rows.groupby(PANEL)), key=lambda part: part["K"].nunique())


def height(rows: pd.DataFrame) -> float:
    return 2.4


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    rows = shown(rows)
    measured = bool(rows["gap"].notna().any())
    axes = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    left, right = axes[0], axes[1] if measured else None
    for look, aside, (pair, part) in zip(LOOKS, ASIDE, rows.groupby("pair"), strict=False):
        part = part.assign(K=part["K"] * aside)
        for arm in kinds.ordered(part["arm"], lambda one: one.trained):
            control = kinds.is_a(arm, kinds.control)
            said = pair if arm == "bridged" else f"{pair}, {words(arm)}"
            own = {"linestyle": ":", "linewidth": 0.8} if control else {}
            curve(left, right, part[part["arm"] == arm], look | {"label": said} | own, hollow=control)
        text = part.loc[part["arm"] == "target", "accuracy"].mean()
        left.axhline(text, **TEXT_LINE | {"color": look["color"]})
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted(rows["K"].unique()), [f"{k:.0f}" for k in sorted(rows["K"].unique())])
        ax.minorticks_off()
        ax.set_xlim(rows["K"].min() / 1.25, rows["K"].max() * 1.25)
        ax.set_xlabel("soft tokens K")
    left.set_ylim(-0.03, 1.03)
    left.set_ylabel("test accuracy")
    if right is not None:
        right.axhline(1, **TEXT_LINE)
        right.set_ylabel("gap recovered (NLL)")
        right.set_ylim(max(-1.0, right.get_ylim()[0]), 1.1)
    legend(figure, [left], ncols=1)


def curve(left: Axes, right: Axes | None, part: pd.DataFrame, look: dict, *, hollow: bool) -> None:
    """Accuracy on the left, gap recovered on the right where it is known."""
    points(left, part["K"], part["accuracy"], part["low"], part["high"], look=look, hollow=hollow)
    each_seed(left, part["K"], part["by_seed"], look=look)
    if right is None:
        return
    known = part.dropna(subset=["gap"])
    points(right, known["K"], known["gap"], known["gap_low"], known["gap_high"], look=look, hollow=hollow)
    each_seed(right, known["K"], known["gap_by_seed"], look=look)


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    measured = part["gap"].notna().any()
    control = kinds.are(part["arm"], kinds.control).any()
    several = part.drop_duplicates("K")
    apart = int((~several["alike"]).sum())
    best = "first" if part["imported"].any() else "best on dev"
    sentences = [
        f"{n_of(part['n'])} test problems of {part['evaluator'].iloc[0]}, {seeds_of(part['seeds'])}. Bars:",
        f"{intervals_of(part['seeds'])}{', bootstrap for the gap' if measured else ''}; small points: seeds. Dotted across:",
        f"each target reading the text itself{' (left), the question as text (right)' if measured else ''}.",
        "Hollow: shuffled soft tokens, the control." if control else "No control was run.",
        f"At each K both directions have the same configuration, but for the layers that are read; of several, the {best}."
        if not apart
        else f"At {apart} of {len(several)} K no configuration is in both: each direction has its own, which differ in more.",
        "Imported: the last evaluation, on problems that training had looked at before." if part["imported"].any() else "",
    ]
    return " ".join(filter(None, sentences))
