"""Training curves: accuracy and answer NLL on dev, the bridge beside its shuffled control.

A row of panels for each configuration, seeds as a band. The table has a row for each (trial, step, arm).
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from raybridge.plots import Axes, Figure, Runs, arm_look, words

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
ARMS = ("shuffled", "bridged")
SHOWN = 6  # configurations in the figure; the table has all
MARK: dict[str, Any] = {"linestyle": "none", "color": "black", "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 5}
MEASURES = {"accuracy": "dev accuracy", "nll": "dev answer NLL per token"}


def table(runs: Runs) -> pd.DataFrame:
    evals = runs.first_readings
    evals = evals[(evals["split"] == "dev") & evals["arm"].isin(ARMS)]
    of_the_trial = ["label", "K", "trial", "fingerprint", "seed", "evaluator"]
    curves = evals[[*of_the_trial, "step", "arm", "accuracy", "low", "high", "nll", "n"]]
    curves = curves.sort_values(["K", "label", "seed", "fingerprint", "step", "arm"], ignore_index=True)
    trials = runs.trials.set_index("fingerprint")
    ended = curves["fingerprint"].map(trials["result.steps"])
    early = curves["fingerprint"].map(trials["result.stopped"].isin(["patience", "degradation"]))
    curves["best"] = curves["step"] == curves["fingerprint"].map(trials["result.peak_step"])
    curves["stopped"] = early & (curves["step"] == ended)
    return curves


def shown(curves: pd.DataFrame) -> list[str]:
    """The configurations that the figure has room for: those with the highest peaks, in the order of the table."""
    peaks = curves[curves["arm"] == "bridged"].groupby("label")["accuracy"].max().nlargest(SHOWN)
    return [label for label in curves["label"].unique() if label in peaks.index]


def height(curves: pd.DataFrame) -> float:
    return 0.6 + 0.85 * len(shown(curves))


def draw(figure: Figure, curves: pd.DataFrame) -> None:
    labels = shown(curves)
    grid = figure.subplots(len(labels), 2, sharex=True, sharey="col", squeeze=False)
    for axes, label in zip(grid, labels, strict=True):
        part = curves[curves["label"] == label]
        axes[0].set_title(label, loc="left", pad=3, fontweight="bold")
        for ax, measure in zip(axes, MEASURES, strict=True):
            for arm in ARMS:
                curve(ax, part[part["arm"] == arm], measure, arm_look(arm), words(arm))
            marks(ax, part[part["arm"] == "bridged"], measure)
    for column, name in enumerate(MEASURES.values()):
        grid[-1, column].set_xlabel("step")
        grid[len(labels) // 2, column].set_ylabel(name, y=0.5 if len(labels) % 2 else 1.15)
    grid[0, 0].set_ylim(bottom=0)
    found = {name: handle for ax in grid.flat for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=4, columnspacing=1, handletextpad=0.4)


def curve(ax: Axes, part: pd.DataFrame, measure: str, look: dict, name: str) -> None:
    """Mean over the seeds with their band; a seed that went on after others had ended is drawn thin."""
    part = part.dropna(subset=[measure])
    if part.empty:
        return
    by_step = part.groupby("step")[measure].agg(["mean", "min", "max", "size"])
    seeds = part["fingerprint"].nunique()
    whole = by_step[by_step["size"] == seeds]
    every = math.ceil(max(len(whole), 1) / 10)
    ax.plot(whole.index, whole["mean"], label=name, markevery=every, **look)
    if seeds > 1:
        ax.fill_between(whole.index, whole["min"], whole["max"], color=look["color"], alpha=0.2, linewidth=0)
        for _, one in part[part["step"] >= whole.index.max()].groupby("fingerprint"):
            ax.plot(one["step"], one[measure], color=look["color"], linewidth=0.5, linestyle=look["linestyle"])
    if measure == "accuracy":
        interval = part.groupby("step")[["low", "high"]].mean().loc[whole.index].iloc[::every]
        ax.vlines(interval.index, interval["low"], interval["high"], color=look["color"], linewidth=0.7, alpha=0.8)


def marks(ax: Axes, bridged: pd.DataFrame, measure: str) -> None:
    """A star where dev accuracy was best, a cross where a trial was stopped."""
    best, stopped = bridged[bridged["best"]], bridged[bridged["stopped"]]
    if len(best):
        ax.plot(best["step"], best[measure], marker="*", markersize=6.5, label="best", **MARK)
    if len(stopped):
        ax.plot(stopped["step"], stopped[measure], marker="X", markersize=5, label="stopped", **MARK)


def caption(curves: pd.DataFrame) -> str:
    labels, problems = shown(curves), sorted(curves["n"].unique())
    many = curves["label"].nunique()
    n = f"n = {problems[0]}" if len(problems) == 1 else f"n = {problems[0]} to {problems[-1]}"
    seeds = curves.groupby("label")["fingerprint"].nunique()
    return (
        f"Dev problems of {', '.join(sorted(curves['evaluator'].unique()))}, {n}. Lines: mean of the seeds "
        f"({seeds.min()}{f' to {seeds.max()}' if seeds.min() < seeds.max() else ''}), shaded from lowest to highest; bars: 95% "
        "Wilson intervals over the problems. Shuffled: the soft tokens of another problem."
        + (f" The {len(labels)} of {many} configurations with the highest peaks." if many > len(labels) else "")
    )
