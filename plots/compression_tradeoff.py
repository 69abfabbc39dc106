"""Compression: what is left of accuracy, and of the gap to the text, when a question becomes K soft tokens.

A row for each (model pair, benchmark, K, arm) of the sweep, seeds averaged. Achieved compression is question tokens over K.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from raybridge.plots import (
    Axes,
    Figure,
    Runs,
    arm_look,
    band_of,
    n_of,
    of_first_reading,
    over_seeds,
    points,
    seeds_of,
    words,
)

NEEDS = "python -m raybridge.sweep sweeps/compression.py"
CURVES = ("token_budget", "shuffled", "bridged")
PANEL = ["pair", "evaluator"]
SHOWN = 2  # pairs side by side


def table(runs: Runs) -> pd.DataFrame:
    test = runs.test[runs.test["fingerprint"].isin(runs.asked_by("compression")) & runs.test["arm"].isin([*CURVES, "target"])]
    if test.empty:
        return pd.DataFrame()
    test = of_first_reading(test)
    points_ = over_seeds(test).sort_values([*PANEL, "K", "arm"], ignore_index=True)
    bridged = test[test["arm"] == "bridged"]
    bands = {key: band_of(part) for key, part in bridged.groupby(PANEL)}
    points_["aa_band"] = [
        bands.get((pair, evaluator)) for pair, evaluator in zip(points_["pair"], points_["evaluator"], strict=True)
    ]
    own = points_["arm"] == "bridged"
    points_["compression"] = points_["question_tokens"] / points_["K"]
    gaps = [mean_gap(runs, row) for row in points_.to_dict("records")]
    points_[["gap", "gap_low", "gap_high"]] = pd.DataFrame(gaps, index=points_.index, dtype=float)
    points_["flagged"] = own & (points_["compression"] <= 1)
    columns = [*PANEL, "label", "K", "compression", "arm", "accuracy", "low", "high", "gap", "gap_low", "gap_high", "nll"]
    return points_[[*columns, "question_tokens", "n", "seeds", "aa_band", "flagged", "fingerprint"]]


def mean_gap(runs: Runs, row: dict) -> tuple[float, float, float]:
    """Gap recovered by an arm: mean over the seeds, and of the ends of their intervals."""
    found = [runs.gaps(one, row["evaluator"]).get(row["arm"]) for one in row["fingerprint"].split()]
    known = [gap for gap in found if gap is not None]
    middle, low, high = np.mean(known, axis=0) if known else (math.nan,) * 3
    return middle, low, high


def panels(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The pairs that the figure shows: those with most K."""
    parts = [part for _, part in rows.groupby(PANEL)]
    return sorted(parts, key=lambda part: -part["K"].nunique())[:SHOWN]


def height(rows: pd.DataFrame) -> float:
    return 3.5


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    shown = panels(rows)
    grid = figure.subplots(2, len(shown), sharex="col", sharey="row", squeeze=False)
    for column, part in enumerate(shown):
        top, below = grid[:, column]
        for arm in CURVES:
            curve = part[part["arm"] == arm].sort_values("compression")
            look = arm_look(arm) | {"label": words(arm)}
            points(top, curve["compression"], curve["accuracy"], curve["low"], curve["high"], look=look)
            known = curve.dropna(subset=["gap"])
            points(below, known["compression"], known["gap"], known["gap_low"], known["gap_high"], look=look)
        shade(top, part)
        text = part.loc[part["arm"] == "target", "accuracy"].mean()
        top.axhline(text, color="black", linewidth=0.8, linestyle=(0, (1, 1)), label="target reads the text")
        below.axhline(1, color="black", linewidth=0.8, linestyle=(0, (1, 1)))
        below.axhline(0, color="0.6", linewidth=0.6)
        ticks(below, part)
        top.set_title(f"{part['pair'].iloc[0]}, {part['evaluator'].iloc[0]}", loc="left", fontweight="bold")
        below.set_xlabel("question tokens per soft token")
    grid[0, 0].set_ylabel("test accuracy")
    grid[1, 0].set_ylabel("gap recovered (NLL)")
    grid[0, 0].set_ylim(bottom=-0.03)
    grid[1, 0].set_ylim(bottom=max(-0.6, grid[1, 0].get_ylim()[0]), top=1.1)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, columnspacing=1)


def shade(ax: Axes, part: pd.DataFrame) -> None:
    """The A/A band about the bridge: trials whose shades overlap may differ by their seeds alone."""
    curve = part[part["arm"] == "bridged"].sort_values("compression")
    band = curve["aa_band"].iloc[0]
    if pd.notna(band):
        middle = curve["accuracy"]
        ax.fill_between(curve["compression"], middle - band / 2, middle + band / 2, color="0.85", linewidth=0, label="A/A band")


def ticks(ax: Axes, part: pd.DataFrame) -> None:
    """A tick at each K: how much it compresses, and K."""
    curve = part[part["arm"] == "bridged"].drop_duplicates("K")
    ax.set_xscale("log", base=2)
    labels = [f"{ratio:.3g}\nK={k:.0f}" for ratio, k in zip(curve["compression"], curve["K"], strict=True)]
    ax.set_xticks(curve["compression"].tolist(), labels)
    ax.minorticks_off()


def caption(rows: pd.DataFrame) -> str:
    shown = pd.concat(panels(rows))
    flagged = sorted({f"K={k:.0f}" for k in shown.loc[shown["flagged"], "K"]})
    band = shown["aa_band"].dropna()
    seeds = seeds_of(shown.loc[shown["arm"] == "bridged", "seeds"])
    return " ".join(
        [
            f"{n_of(shown['n'])} test problems, {seeds}. Bars: 95%, Wilson for",
            "accuracy, delta method over problems for the gap. Gap recovered: 0 is no question, 1 is the question as text.",
            "Token budget: the first K tokens of the question as text.",
            f"Grey: A/A band of the seeds ({band.iloc[0]:.3f})." if len(band) else "No replicate seeds, so no A/A band.",
            *([f"No compression at {', '.join(flagged)}."] if flagged else []),
        ]
    )
