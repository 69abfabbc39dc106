"""Training curves: accuracy and answer NLL over steps, the bridge beside its shuffled control.

A row of panels for each configuration, seeds as a band. The table has a row for each (trial, step, arm).
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from raybridge.plots import (
    TEXT_LINE,
    Axes,
    Figure,
    Runs,
    arm_look,
    arms,
    few,
    legend,
    of_first_reading,
    rest,
    stacked,
    without_control,
    words,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PROBLEMS = ["evaluator", "split", "n"]
SHOWN = 6  # configurations in the figure; the table has all
MARK: dict[str, Any] = {"linestyle": "none", "color": "black", "markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 5}
MEASURES = {"accuracy": "accuracy", "nll": "answer NLL"}


def table(runs: Runs) -> pd.DataFrame:
    """Evaluations during training: on dev, or, of runs imported from elsewhere, on the test problems that they used."""
    evals = stacked(of_first_reading(runs.frozen("dev")), runs.first_readings)
    trials = runs.trials.set_index("fingerprint")
    imported = evals["fingerprint"].map(trials["imported"]).eq(True)
    evals = evals[((evals["split"] == "dev") | imported) & evals["arm"].isin([*curved(), "target"])]
    of_the_trial = ["label", "K", "trial", "fingerprint", "seed", "evaluator", "split"]
    curves = evals[[*of_the_trial, "step", "arm", "accuracy", "low", "high", "nll", "n"]]
    curves = curves.sort_values(["K", "label", "seed", "fingerprint", "step", "arm"], ignore_index=True)
    early = curves["fingerprint"].map(trials["result.stopped"].isin(["patience", "degradation"])).eq(True)
    curves["ranks"] = curves["arm"] == curves["fingerprint"].map(trials["judged_by"])
    tested = trials["result.best_step"].fillna(trials["result.peak_step"])  # imported runs kept no checkpoint, only a peak
    curves["best"] = curves["step"] == curves["fingerprint"].map(tested)
    curves["stopped"] = early & (curves["step"] == curves["fingerprint"].map(trials["result.steps"]))
    return curves


def curved() -> list[str]:
    """The arms that have a curve, in the order in which they are drawn: bridges over their controls."""
    return [arm.name for arm in reversed(arms.every()) if arm.trained and arm.in_sweeps]


def ranked(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of the arm that each trial is ranked by."""
    return curves[curves["ranks"]]


def shown(curves: pd.DataFrame) -> list[str]:
    """The configurations that the figure has room for: those that were best on dev, in the order of the table."""
    rows = ranked(curves)
    chosen = rows["accuracy"].where(rows["best"]).groupby(rows["label"]).mean().fillna(-1.0).nlargest(SHOWN)
    return [label for label in curves["label"].unique() if label in chosen.index]


def height(curves: pd.DataFrame) -> float:
    return 0.6 + 0.95 * len(shown(curves))


def draw(figure: Figure, curves: pd.DataFrame) -> None:
    labels = shown(curves)
    measures = {name: said for name, said in MEASURES.items() if curves[name].notna().any()}
    grid = figure.subplots(len(labels), len(measures), sharey="col", squeeze=False)
    last = [curves.loc[curves["label"] == label, "step"].max() for label in labels]
    for number, (axes, label) in enumerate(zip(grid, labels, strict=True)):
        part = curves[curves["label"] == label]
        axes[0].set_title(label, loc="left", pad=4, fontweight="bold")
        for ax, measure in zip(axes, measures, strict=True):
            ax.set_ylabel(measures[measure])
            ax.set_xlim(-0.03 * last[number], 1.05 * last[number])
            ax.tick_params(labelbottom=last[number : number + 2] != last[number : number + 1] * 2)  # if the next row's differ
            if part[measure].isna().all():
                ax.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="0.4")
            for arm in curved():
                curve(ax, part[part["arm"] == arm], measure, arm_look(arm), words(arm))
            text = part.loc[part["arm"] == "target", measure].mean()
            if not math.isnan(text):
                ax.axhline(text, **TEXT_LINE, label="target reads the text")
            marks(ax, ranked(part), measure)
    for ax in grid[-1]:
        ax.set_xlabel("step")
    grid[0, 0].set_ylim(bottom=-0.03)
    legend(figure, grid.flat, ncols=3, first=("bridged", "shuffled", "bridged with text"))


def curve(ax: Axes, part: pd.DataFrame, measure: str, look: dict, name: str) -> None:
    """Mean over the seeds with their band, each of them drawn thin."""
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
        for _, one in part.groupby("fingerprint"):
            ax.plot(one["step"], one[measure], color=look["color"], linewidth=0.4, alpha=0.6, linestyle=look["linestyle"])
    if measure == "accuracy":
        interval = part.groupby("step")[["low", "high"]].mean().loc[whole.index].iloc[::every]
        ends = [(whole["mean"] - interval["low"]).dropna().clip(0), (interval["high"] - whole["mean"]).dropna().clip(0)]
        ax.errorbar(interval.index, whole["mean"][interval.index], yerr=ends, fmt="none", color=look["color"], linewidth=0.8)


def marks(ax: Axes, rows: pd.DataFrame, measure: str) -> None:
    """A star at the checkpoint that dev chose, a cross where a trial was stopped."""
    best, stopped = rows[rows["best"]], rows[rows["stopped"]]
    if len(best):
        ax.plot(best["step"], best[measure], marker="*", markersize=6.5, label="best", **MARK)
    if len(stopped):
        ax.plot(stopped["step"], stopped[measure], marker="X", markersize=5, label="stopped", **MARK)


def caption(curves: pd.DataFrame) -> str:
    labels = shown(curves)
    there = curves[curves["label"].isin(labels)]
    problems = few([f"{n} {split} problems of {evaluator}" for (evaluator, split, n), _ in there.groupby(PROBLEMS)], "sets")
    seeds = there.groupby("label")["fingerprint"].nunique()
    many = curves["label"].nunique()
    sentences = [
        f"n = {problems}.",
        "Bars: 95% Wilson intervals over the problems.",
    ]
    if seeds.max() > 1:
        count = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else str(seeds.max())
        sentences.append(f"Lines: mean over {count} seeds, shaded from the lowest to the highest; thin: each of them.")
    if there["nll"].notna().any():
        sentences.append("NLL: nats per token of the worked answer.")
    if "shuffled" in set(there["arm"]):
        sentences.append("Shuffled: the soft tokens of another problem.")
    if "bridged_with_text" in set(there["arm"]):
        sentences.append("Bridged with text: the question stood behind the soft tokens as text.")
    uncontrolled = [label for label in labels if "shuffled" not in set(there.loc[there["label"] == label, "arm"])]
    sentences += without_control(uncontrolled, of=len(labels))
    best = "best on dev" if set(there["split"]) == {"dev"} else "the best"
    return " ".join([*sentences, *rest(len(labels), many, by=best)])
