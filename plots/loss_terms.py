"""Loss terms: value and gradient norm of every term over steps.

A row for each (trial, step, term). A term that is on must move the translator: gradients at zero are marked.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import LOOKS, Axes, Figure, Runs, few, legend, log_ticks, rest, seeds_of, words

NEEDS = "python -m raybridge.sweep sweeps/loss_ablation.py"
SHOWN = 4
MEASURES = {"value": "value", "gradient": "gradient"}


def table(runs: Runs) -> pd.DataFrame:
    metrics = runs.metrics
    terms = [str(column).removeprefix("loss/") for column in metrics if str(column).startswith("loss/")]
    of_the_trial = ["label", "K", "trial", "fingerprint", "seed", "step"]
    parts = []
    for term in terms:
        columns = {f"loss/{term}": "value", f"weight/{term}": "weight", f"gradient/{term}": "gradient"}
        part = metrics.reindex(columns=[*of_the_trial, *columns]).rename(columns=columns).dropna(subset=["value"])
        parts.append(part.assign(term=term, dead=part["gradient"].eq(0) & part["weight"].gt(0)))
    if not parts:
        return pd.DataFrame()
    return pd.concat(parts).sort_values(["K", "label", "seed", "fingerprint", "term", "step"], ignore_index=True)


def shown(rows: pd.DataFrame) -> list[str]:
    """The configurations that the figure has room for: those with most terms."""
    many = rows.groupby("label")["term"].nunique().sort_values(ascending=False, kind="stable")
    return [label for label in rows["label"].unique() if label in set(many.index[:SHOWN])]


def height(rows: pd.DataFrame) -> float:
    return 0.6 + 0.9 * len(shown(rows))


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    labels = shown(rows)
    looks = looks_of(rows.loc[rows["label"].isin(labels), "term"])
    grid = figure.subplots(len(labels), 2, sharex=True, squeeze=False)
    for axes, label in zip(grid, labels, strict=True):
        axes[0].set_title(label, loc="left", pad=4, fontweight="bold")
        for term, look in looks.items():
            part = rows[(rows["label"] == label) & (rows["term"] == term)]
            for ax, measure in zip(axes, MEASURES, strict=True):
                line(ax, part, measure, look, words(term))
        positive = rows.loc[(rows["label"] == label) & rows["gradient"].gt(0), "gradient"]
        if len(positive) and positive.max() > 20 * positive.min():
            log_ticks(axes[1])
        for ax, name in zip(axes, MEASURES.values(), strict=True):
            ax.set_ylabel(name)
            ax.margins(y=0.12)  # the panels are low: a mark at the edge would be cut
    for ax in grid[-1]:
        ax.set_xlabel("step")
    legend(figure, grid.flat, ncols=3)


def looks_of(terms: pd.Series) -> dict[str, dict]:
    """A look of its own for each term; those beyond the looks that there are come hollow."""
    return {
        term: LOOKS[number % len(LOOKS)] | ({"markerfacecolor": "white"} if number >= len(LOOKS) else {})
        for number, term in enumerate(sorted(terms.unique()))
    }


def line(ax: Axes, part: pd.DataFrame, measure: str, look: dict, name: str) -> None:
    """Mean over the seeds, shaded from the lowest to the highest; a cross where a term that is on has no gradient."""
    by_step = part.groupby("step")[measure].agg(["mean", "min", "max"]).dropna()
    if by_step.empty:
        return
    ax.plot(by_step.index, by_step["mean"], label=name, markevery=max(1, len(by_step) // 5), **look)
    ax.fill_between(by_step.index, by_step["min"], by_step["max"], color=look["color"], alpha=0.2, linewidth=0)
    dead = part[part["dead"]]
    if measure == "gradient" and len(dead):
        ax.plot(dead["step"], [0.02] * len(dead), "X", color="black", transform=ax.get_xaxis_transform(), label="dead term")


def caption(rows: pd.DataFrame) -> str:
    labels = shown(rows)
    there = rows[rows["label"].isin(labels)]
    dead = sorted(rows.loc[rows["dead"], "term"].unique())
    many = rows["label"].nunique()
    counts = there.groupby("label")["fingerprint"].nunique()
    return " ".join(
        [
            f"Training batches, {seeds_of(counts)}{'; shaded from the lowest to the highest' if counts.max() > 1 else ''}.",
            "Values and norms of the gradients are before weighting.",
            f"No gradient although on: {few([words(name) for name in dead], 'terms')}."
            if dead
            else "Every term that is on moves the translator.",
            *rest(len(labels), many, by="those with most terms"),
        ]
    )
