"""Inference cost: accuracy against time per problem and against what the target keeps in its KV cache.

A row for each (configuration, benchmark, arm), seeds averaged. Time is of batched decoding as evaluation ran it.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import ARMS, Figure, Runs, arm_look, costs, n_of, points, words

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
PANEL = ["pair", "evaluator"]
SHOWN = ("source", "target", "bridged", "bridged_with_text", "token_budget", "cascade", "shuffled")


def table(runs: Runs) -> pd.DataFrame:
    return costs(runs, SHOWN)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """One pair and benchmark: the one with most configurations."""
    return max((part for _, part in rows.groupby(PANEL)), key=lambda part: part["label"].nunique())


def height(rows: pd.DataFrame) -> float:
    return 2.3


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    part = shown(rows)
    space = "kv_bytes" if "kv_bytes" in part and part["kv_bytes"].notna().any() else "context_tokens"
    left, right = figure.subplots(1, 2, sharey=True)
    for arm in [arm for arm in ARMS if arm in set(part["arm"])]:
        mine = part[part["arm"] == arm]
        if arm in ("source", "target"):
            mine = mine.head(1)  # frozen: the same in every configuration
        look = arm_look(arm) | {"linestyle": "none", "label": words(arm)}
        for ax, cost in ((left, "seconds_per_problem"), (right, space)):
            points(ax, mine[cost], mine["accuracy"], mine["low"], mine["high"], look=look)
    left.set_xlabel("seconds per problem")
    right.set_xlabel("KV bytes" if space == "kv_bytes" else "target's context, tokens")
    left.set_ylabel("test accuracy")
    left.set_ylim(bottom=-0.03)
    left.set_xlim(left=0)
    right.set_xlim(left=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1, handletextpad=0.2)


def caption(rows: pd.DataFrame) -> str:
    part = shown(rows)
    where = f"{part['pair'].iloc[0]} on {part['evaluator'].iloc[0]}"
    return (
        f"{where}, {n_of(part['n'])} test problems; at each K the configuration that was best on dev. Bars: 95% "
        "Wilson intervals. Time of batched decoding; the source's prefill is not in it. Context: prompt and soft tokens "
        "that the target holds while it answers."
    )
