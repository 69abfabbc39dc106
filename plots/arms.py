"""Arms: every way to answer one benchmark, with its controls, on the same test problems.

The table has a row for each (configuration, benchmark, arm, reading); the figure shows, for each benchmark, the configuration
that was best on dev.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import (
    Figure,
    Runs,
    arm_look,
    counted,
    each_seed,
    intervals_of,
    kinds,
    n_by_arm,
    over_seeds,
    points,
    rest,
    seeds_of,
    without_control,
    words,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PANEL = ["evaluator", "imported"]


def table(runs: Runs) -> pd.DataFrame:
    test = runs.test
    trials = runs.trials.set_index("label")
    arms = over_seeds(runs, test[kinds.are(test["arm"], kinds.listed)])
    arms["nll"] = arms["nll"].where(arms["arm"].map(kinds.own_tokens))  # of the target's tokens alone
    arms["imported"] = arms["label"].map(trials["imported"].groupby("label").first())
    arms["dev"] = arms["label"].map(trials["dev"].groupby("label").mean())
    ranked = arms["label"].map(trials["rank"].groupby("label").mean())
    arms["chosen"] = ranked == ranked.groupby([arms[name] for name in PANEL]).transform("max")
    ran_on = test.get("ran_on", pd.Series(0, index=test.index)).gt(0)
    arms["runs_on"] = arms["label"].isin(test.loc[ran_on, "label"])
    columns = ["label", "pair", "K", "evaluator", "arm", "reading", "accuracy", "low", "high", "by_seed", "nll", "n", "seeds"]
    return arms[[*columns, "imported", "dev", "chosen", "runs_on", "fingerprint"]]


def panels(arms: pd.DataFrame) -> list[pd.DataFrame]:
    """What each panel shows: one configuration on one benchmark."""
    chosen = arms[arms["chosen"]]
    return [part[part["label"] == part["label"].iloc[0]] for _, part in chosen.groupby(PANEL)]


def order(panel: pd.DataFrame) -> list[str]:
    """Arms from top to bottom, controls last."""
    return kinds.ordered(panel["arm"])


def height(arms: pd.DataFrame) -> float:
    return 0.3 + sum(0.42 + 0.19 * len(order(panel)) for panel in panels(arms))


def draw(figure: Figure, arms: pd.DataFrame) -> None:
    shown = panels(arms)
    ratios = [len(order(panel)) + 1.5 for panel in shown]
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for ax, panel in zip(axes, shown, strict=True):
        names = order(panel)
        controls = kinds.ordered(names, kinds.control)
        place = {name: -number - 0.4 * (name in controls) for number, name in enumerate(names)}
        for second, (_, part) in enumerate(panel.groupby("reading", sort=False)):
            for row in part.to_dict("records"):
                look = arm_look(row["arm"]) | {"linestyle": "none", "markersize": 3 if second else 3.5}
                y = place[row["arm"]] - 0.3 * second
                points(ax, [row["accuracy"]], [y], [row["low"]], [row["high"]], look=look, across=True, hollow=bool(second))
                each_seed(ax, [y], [row["by_seed"]], look=look, across=True)
        ax.set_yticks(list(place.values()), [words(name) for name in names])
        ax.axhline(max([place[name] for name in controls], default=-99) + 0.7, color="0.6", linewidth=0.5)
        ax.set_ylim(min(place.values()) - 0.8, 0.6)
        ax.set_title(f"{panel['evaluator'].iloc[0]}: {panel['label'].iloc[0]}", loc="left", fontweight="bold")
        ax.grid(visible=False, axis="y")
    axes[-1].set_xlim(-0.02, 1.02)
    axes[-1].set_xlabel("test accuracy")


def caption(arms: pd.DataFrame) -> str:
    shown = pd.concat(panels(arms))
    many = shown["label"].nunique()
    readings = list(dict.fromkeys(shown["reading"]))
    sentences = [
        f"{n_by_arm(shown)} test problems, {seeds_of(shown['seeds'])}.",
        f"Bars: {intervals_of(shown['seeds'])}; small points: seeds. Filled: {readings[0]} reading"
        + (f"; hollow, below: {readings[1]}." if len(readings) > 1 else "."),
    ]
    controlled = set(shown.loc[kinds.are(shown["arm"], kinds.control), "label"])
    if controlled:
        sentences.append("Under the line: controls, which should fail.")
    uncontrolled = [label for label in shown["label"].unique() if label not in controlled]
    sentences += without_control(uncontrolled, of=many)
    if shown["runs_on"].any() and len(readings) > 1:
        where = counted(shown.loc[shown["runs_on"], "label"], of=many)
        sentences.append(f"Completions of {where} run on into a new question, whose answer the {readings[1]} reading finds.")
    if not shown["imported"].all():
        sentences.append("Of several configurations, the one that was best on dev.")
    if shown["imported"].any():
        where = counted(shown.loc[shown["imported"], "label"], of=many)
        told = "" if many == 1 else f"{where}, "
        sentences.append(f"Imported: {told}the last evaluation, on problems that training had looked at before.")
    by = "the first" if shown["imported"].all() else "best on dev"
    return " ".join([*sentences, *rest(many, arms["label"].nunique(), by=by)])
