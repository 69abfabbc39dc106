"""Training curves: accuracy and answer NLL over steps, the bridge beside its shuffled control.

A row of panels for each configuration, seeds as a band. The table has a row for each (trial, step, arm).
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from raybridge.plots import Axes, Figure, Runs, arm_look, of_first_reading, stacked, words

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
ARMS = ("target", "shuffled", "bridged_with_text", "bridged")
PROBLEMS = ["evaluator", "split", "n"]
BRIDGES = ("bridged", "bridged_with_text")
SHOWN = 6  # configurations in the figure; the table has all
MARK: dict[str, Any] = {"linestyle": "none", "color": "black", "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 5}
MEASURES = {"accuracy": "accuracy", "nll": "answer NLL per token"}


def table(runs: Runs) -> pd.DataFrame:
    """Evaluations during training: on dev, or, of runs imported from elsewhere, on the test problems that they used."""
    evals = stacked(of_first_reading(runs.frozen("dev")), runs.first_readings)
    trials = runs.trials.set_index("fingerprint")
    imported = evals["fingerprint"].map(trials["imported"]).eq(True)
    evals = evals[((evals["split"] == "dev") | imported) & evals["arm"].isin(ARMS)]
    of_the_trial = ["label", "K", "trial", "fingerprint", "seed", "evaluator", "split"]
    curves = evals[[*of_the_trial, "step", "arm", "accuracy", "low", "high", "nll", "n"]]
    curves = curves.sort_values(["K", "label", "seed", "fingerprint", "step", "arm"], ignore_index=True)
    early = curves["fingerprint"].map(trials["result.stopped"].isin(["patience", "degradation"])).eq(True)
    curves["best"] = curves["step"] == curves["fingerprint"].map(trials["result.peak_step"])
    curves["stopped"] = early & (curves["step"] == curves["fingerprint"].map(trials["result.steps"]))
    return curves


def shown(curves: pd.DataFrame) -> list[str]:
    """The configurations that the figure has room for: those with the highest peaks, in the order of the table."""
    peaks = curves[curves["arm"].isin(BRIDGES)].groupby("label")["accuracy"].max().nlargest(SHOWN)
    return [label for label in curves["label"].unique() if label in peaks.index]


def height(curves: pd.DataFrame) -> float:
    return 0.6 + 0.85 * len(shown(curves))


def draw(figure: Figure, curves: pd.DataFrame) -> None:
    labels = shown(curves)
    measures = {name: said for name, said in MEASURES.items() if curves[name].notna().any()}
    grid = figure.subplots(len(labels), len(measures), sharex=True, sharey="col", squeeze=False)
    for axes, label in zip(grid, labels, strict=True):
        part = curves[curves["label"] == label]
        axes[0].set_title(label, loc="left", pad=3, fontweight="bold")
        for ax, measure in zip(axes, measures, strict=True):
            for arm in ARMS[1:]:
                curve(ax, part[part["arm"] == arm], measure, arm_look(arm), words(arm))
            text = part.loc[part["arm"] == "target", measure].mean()
            if not math.isnan(text):
                ax.axhline(text, color="black", linewidth=0.8, linestyle=(0, (1, 1)), label="target reads the text")
            marks(ax, part[part["arm"].isin(BRIDGES)], measure)
    for column, name in enumerate(measures.values()):
        grid[-1, column].set_xlabel("step")
        middle = grid[len(labels) // 2, column]
        middle.set_ylabel(name, y=0.5 if len(labels) % 2 else 1.15)
        middle.yaxis.set_label_position("right" if column else "left")  # clear of the titles, which may be long
    grid[0, 0].set_ylim(bottom=-0.03)
    found = {name: handle for ax in grid.flat for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside upper center",
        ncols=4 if len(found) < 5 else 3,
        columnspacing=1,
        handletextpad=0.4,
    )


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
        ends = [(whole["mean"] - interval["low"]).dropna().clip(0), (interval["high"] - whole["mean"]).dropna().clip(0)]
        ax.errorbar(interval.index, whole["mean"][interval.index], yerr=ends, fmt="none", color=look["color"], linewidth=0.8)


def marks(ax: Axes, bridged: pd.DataFrame, measure: str) -> None:
    """A star where dev accuracy was best, a cross where a trial was stopped."""
    best, stopped = bridged[bridged["best"]], bridged[bridged["stopped"]]
    if len(best):
        ax.plot(best["step"], best[measure], marker="*", markersize=6.5, label="best", **MARK)
    if len(stopped):
        ax.plot(stopped["step"], stopped[measure], marker="X", markersize=5, label="stopped", **MARK)


def caption(curves: pd.DataFrame) -> str:
    labels = shown(curves)
    there = curves[curves["label"].isin(labels)]
    problems = ", ".join(f"{n} {split} problems of {evaluator}" for (evaluator, split, n), _ in there.groupby(PROBLEMS))
    seeds = there.groupby("label")["fingerprint"].nunique()
    many = curves["label"].nunique()
    sentences = [
        f"n = {problems}.",
        "Bars: 95% Wilson intervals over the problems.",
    ]
    if seeds.max() > 1:
        count = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else str(seeds.max())
        sentences.append(f"Lines: mean over {count} seeds, shaded from the lowest to the highest.")
    if "shuffled" in set(there["arm"]):
        sentences.append("Shuffled: the soft tokens of another problem.")
    if "bridged_with_text" in set(there["arm"]):
        sentences.append("Bridged with text: the question stood behind the soft tokens as text.")
    if many > len(labels):
        sentences.append(f"The {len(labels)} of {many} configurations with the highest peaks.")
    return " ".join(sentences)
