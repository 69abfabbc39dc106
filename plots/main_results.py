"""Main results: every arm of the configuration that was best on dev, and the bridge against each of them.

Each pair on the problems that both answered; p of the paired tests Holm-corrected within a benchmark.
"""

from __future__ import annotations

import pandas as pd

from raybridge.plots import Column, Runs, intervals_of, kinds, n_by_arm, seeds_of, shots_told, standings, without_control

NEEDS = "python -m raybridge.sweep sweeps/compression.py"


def table(runs: Runs) -> pd.DataFrame:
    return standings(runs)


def columns(rows: pd.DataFrame) -> dict[str, Column]:
    return {
        **{name: Column(header="", heads=True) for name in ("evaluator", "pair", "label")},
        "arm": Column(header="Arm", format="words"),
        "accuracy": Column(header="Accuracy", format=".3f", low="low", high="high"),
        "nll": Column(header="NLL", format=".3f"),
        **({"bits_per_byte": Column(header="Bits/byte", format=".3f")} if rows["bits_per_byte"].notna().any() else {}),
        "gap": Column(header="Gap", format=".2f"),
        "bridge_minus_arm": Column(header="Bridge − arm", format="+.3f"),
        "p_holm": Column(header="p (Holm)", format="p"),
        "bridge_is": Column(header="Bridge is"),
    }


def caption(rows: pd.DataFrame) -> str:
    controlled = set(rows.loc[kinds.are(rows["arm"], kinds.control), "label"])
    uncontrolled = [label for label in rows["label"].unique() if label not in controlled]
    return " ".join(
        [
            f"Every arm on {n_by_arm(rows)} test problems, {seeds_of(rows['seeds'])}; of several configurations, the one that",
            f"was best on dev. Accuracy with its interval ({intervals_of(rows['seeds'])}), NLL per answer token of the",
            "target, gap to the text recovered. The last columns compare the bridge with each arm on the problems that both",
            "answered (paired, Holm-corrected).",
            *([f"{told}."] if (told := shots_told(rows["shots"])) else []),
            *without_control(uncontrolled, of=rows["label"].nunique()),
        ]
    )
