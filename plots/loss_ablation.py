"""Loss ablation: what each set of loss terms changes against the baseline, on the same test problems.

The baseline is the first trial that the sweep asked for. Seeds are averaged problem by problem before the paired test.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from raybridge.plots import (
    BLACK,
    Figure,
    Runs,
    against_first,
    arm_look,
    band_told,
    each_seed,
    elided,
    intervals_of,
    legend,
    n_of,
    points,
    rest,
    seeds_of,
    words,
)

SHOWN = 20  # configurations in the figure; the table has all
NEEDS = "python -m raybridge.sweep sweeps/loss_ablation.py"


def table(runs: Runs) -> pd.DataFrame:
    return against_first(runs, "loss_ablation")


def height(rows: pd.DataFrame) -> float:
    return 0.75 + 0.3 * min(len(rows), SHOWN)


def draw(figure: Figure, rows: pd.DataFrame) -> None:
    rows = rows.head(SHOWN)
    ax = figure.subplots()
    of, band = " or ".join(map(words, rows["arm"].unique())), rows["aa_band"].iloc[0]
    if pd.notna(band):
        ax.axvspan(-band, band, color="0.9", label="A/A band", linewidth=0)
    ax.axvline(0, color="0.4", linewidth=0.7)
    for y, row in zip(range(0, -len(rows), -1), rows.to_dict("records"), strict=True):
        ends = [row["low"]], [row["high"]]
        look: dict[str, Any] = {"linestyle": "none", "marker": "D", "color": BLACK, "label": None if y else of}
        points(
            ax, [row["difference"]], [y + 0.12], *ends, look=look, across=True, hollow=row["verdict"] not in ("better", "worse")
        )
        each_seed(ax, [y + 0.12], [row["by_seed"]], look=look, across=True)
        ax.annotate(row["verdict"], (1.02, y + 0.12), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=6.5)
        control = [row["shuffled_difference"]], [y - 0.2], [row["shuffled_low"]], [row["shuffled_high"]]
        look = arm_look("shuffled") | {"linestyle": "none", "label": None if y else "shuffled soft tokens"}
        points(ax, *control, look=look, across=True)
    ax.set_yticks(range(0, -len(rows), -1), rows["label"].tolist())
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("test accuracy minus baseline")
    legend(figure, [ax], ncols=3)


def caption(rows: pd.DataFrame) -> str:
    return " ".join(
        [
            f"Paired differences, each by the arm that ranks it, to {elided(rows['baseline'].iloc[0], 40)}",
            f"({rows['baseline_accuracy'].iloc[0]:.3f}),",
            f"{n_of(rows['n'])} test problems, {seeds_of(rows['seeds'])}. Bars: {intervals_of(rows['seeds'], 'bootstrap')};",
            "small points: seeds. Filled: significant after Holm's correction and outside the A/A band; else a tie, and",
            f"without a band no ranking. {band_told(rows['aa_band'].iloc[0], rows['seeds'])}.",
            "Shuffled: the same translators with the soft tokens of another problem.",
            *rest(SHOWN, len(rows), by="the first"),
        ]
    )
