"""Inference cost: accuracy against time per problem and against what the target keeps in its KV cache.

A row for each (configuration, benchmark, arm), seeds averaged. Time is of batched decoding as evaluation ran it.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import MaxNLocator

from raybridge.plots import Figure, Runs, arm_look, arms, costs, kinds, legend, n_of, points, words

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PANEL = ["pair", "evaluator"]
SHORT = 0.5  # seconds, below which the axis has milliseconds


def table(runs: Runs) -> pd.DataFrame:
    rows = costs(runs, [arm.name for arm in arms.every() if kinds.costed(arm)])
    return rows if rows.empty else rows[rows["arm"].map(kinds.is_plain)].reset_index(drop=True)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """One pair and benchmark: the one with most configurations."""
    return max((part for _, part in rows.groupby(PANEL)), key=lambda part: part["label"].nunique())


def axes_of(part: pd.DataFrame) -> tuple[str, str]:
    """The measures of time and space: latency and KV bytes where an evaluation measured them."""
    known = part.columns[part.notna().any()]
    time = "latency_1" if "latency_1" in known else "seconds_per_problem"
    return time, "kv_bytes" if "kv_bytes" in known else "context_tokens"


def height(rows: pd.DataFrame) -> float:
    return 2.3


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    part = shown(rows)
    time, space = axes_of(part)
    left, right = figure.subplots(1, 2, sharey=True)
    alone = kinds.ordered(part["arm"], lambda arm: arm.frozen and not arm.of_k and not arm.passes_on)
    for arm in kinds.ordered(part["arm"]):
        mine = part[part["arm"] == arm]
        frozen = arm in alone  # large and hollow: other marks may lie inside
        if frozen:
            mine = mine.head(1)  # the same in every configuration
        look = arm_look(arm) | {"linestyle": "none", "label": words(arm)} | ({"markersize": 6} if frozen else {})
        mine = mine.sort_values("K")
        for ax, cost in ((left, time), (right, space)):
            points(ax, mine[cost], mine["accuracy"], mine["low"], mine["high"], look=look, hollow=frozen)
            ax.plot(mine[cost], mine["accuracy"], color=look["color"], linewidth=0.5)
        if arm == "bridged":
            for k, x, y in zip(mine["K"], mine[time], mine["accuracy"], strict=True):
                left.annotate(f"{k:.0f}", (x, y), (3, 2), textcoords="offset points", fontsize=5, color=look["color"])
    short = part[time].max() < SHORT
    left.set_xlabel(f"{'ms' if short else 'seconds'} per problem")
    right.set_xlabel("KV cache, kB" if space == "kv_bytes" else "target's context, tokens")
    if space == "kv_bytes":
        right.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}")
    if short:
        left.xaxis.set_major_formatter(lambda value, _: f"{value * 1000:g}")
    left.set_ylabel("test accuracy")
    left.set_ylim(bottom=-0.03)
    for ax, cost in ((left, time), (right, space)):
        ax.set_xlim(0, 1.08 * part[cost].max())
        ax.xaxis.set_major_locator(MaxNLocator(4))
    legend(figure, [left], ncols=3)


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    time, space = axes_of(part)
    sentences = [
        f"{part['pair'].iloc[0]} on {part['evaluator'].iloc[0]}, {n_of(part['n'])} test problems; at each K the",
        "configuration that was best on dev, joined by thin lines; K beside bridged (left). Bars: 95% Wilson intervals.",
        "Time: one problem at a time, the source's prefill included."
        if time == "latency_1"
        else "Time: batched decoding beside whatever else the machine was doing; the source's prefill is not in it.",
    ]
    if space == "context_tokens":
        sentences.append("Context: prompt and soft tokens that the target holds while it answers.")
    return " ".join(sentences)
