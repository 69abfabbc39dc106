"""Inference cost: accuracy against time per problem and against what the target keeps in its KV cache.

A row for each (configuration, benchmark, arm), seeds averaged. Time is of problems that were answered one at a time, and
none where too few of them were timed.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import MaxNLocator

from raybridge.plots import (
    TIMED,
    Axes,
    Figure,
    Runs,
    arm_look,
    arms,
    costs,
    each_seed,
    intervals_of,
    kinds,
    legend,
    n_of,
    points,
    words,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PANEL = ["pair", "evaluator"]
KV = "question_kv_bytes"
SHORT = 0.5  # seconds, below which the axis has milliseconds


def table(runs: Runs) -> pd.DataFrame:
    rows = costs(runs, [arm.name for arm in arms.every() if kinds.costed(arm)])
    return rows if rows.empty else rows[rows["arm"].map(kinds.is_plain)].reset_index(drop=True)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """One pair and benchmark: the one with most configurations."""
    return max((part for _, part in rows.groupby(PANEL)), key=lambda part: part["label"].nunique())


def space_of(part: pd.DataFrame) -> str:
    """The measure of space: KV bytes in the question's place where an evaluation measured them."""
    return KV if KV in part and part[KV].notna().any() else "context_tokens"


def height(rows: pd.DataFrame) -> float:
    return 2.3


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    part = shown(rows)
    space, timed = space_of(part), bool(part["latency_median"].notna().any())
    axes = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    costs_of = dict(zip(["latency_median", space] if timed else [space], axes, strict=True))
    alone = kinds.ordered(part["arm"], lambda arm: arm.frozen and not arm.of_k and not arm.passes_on)
    for arm in kinds.ordered(part["arm"]):
        mine = part[part["arm"] == arm]
        frozen = arm in alone  # large and hollow: other marks may lie inside
        if frozen:
            mine = mine.head(1)  # the same in every configuration
        look = arm_look(arm) | {"linestyle": "none", "label": words(arm)} | ({"markersize": 6} if frozen else {})
        mine = mine.sort_values("K")
        for cost, ax in costs_of.items():
            known = mine.dropna(subset=[cost])
            points(ax, known[cost], known["accuracy"], known["low"], known["high"], look=look, hollow=frozen)
            if cost != space:
                sides = known[cost] - known["latency_low"], known["latency_high"] - known[cost]
                ax.errorbar(known[cost], known["accuracy"], xerr=sides, fmt="none", ecolor=look["color"], elinewidth=0.6)
            each_seed(ax, known[cost], known["by_seed"], look=look)
            if cost == space:  # grows with K, where a time is of its own
                ax.plot(known[cost], known["accuracy"], color=look["color"], linewidth=0.5)
        if arm == "bridged":
            for k, x, y in zip(mine["K"], mine[space], mine["accuracy"], strict=True):
                axes[-1].annotate(f"{k:.0f}", (x, y), (3, 2), textcoords="offset points", fontsize=5, color=look["color"])
    if timed:
        time_axis(axes[0], part["latency_median"].max())
    axes[-1].set_xlabel("KV cache of the question, kB" if space == KV else "target's context, tokens")
    if space == KV:
        axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}")
    axes[0].set_ylabel("test accuracy")
    axes[0].set_ylim(bottom=-0.03)
    for cost, ax in costs_of.items():
        ax.set_xlim(0, 1.08 * part[cost].max())
        ax.xaxis.set_major_locator(MaxNLocator(4))
    legend(figure, [axes[-1]], ncols=3)


def time_axis(ax: Axes, longest: float) -> None:
    """Seconds, or milliseconds where all are short."""
    ax.set_xlabel(f"{'ms' if longest < SHORT else 'seconds'} per problem")
    if longest < SHORT:
        ax.xaxis.set_major_formatter(lambda value, _: f"{value * 1000:g}")


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    apart = part.loc[part["latency_median"].notna(), "timed"]
    sentences = [
        f"{part['pair'].iloc[0]} on {part['evaluator'].iloc[0]}, {n_of(part['n'])} test problems; at each K the",
        "configuration that was best on dev, joined by thin lines over memory; K beside bridged. Bars:",
        f"{intervals_of(part['seeds'])}; small points: seeds.",
        f"Time: median of problems answered one at a time with its 95% interval, {n_of(apart)} timed, the source's prefill "
        "included."
        if len(apart)
        else f"No time: fewer than {TIMED} problems were timed apart (evaluate --timed {TIMED}).",
    ]
    if space_of(part) == KV:
        sentences.append("KV cache: what stands in the question's place; the exemplars cost every arm the same.")
    if space_of(part) == "context_tokens":
        sentences.append("Context: prompt and soft tokens that the target holds while it answers.")
    return " ".join(sentences)
