"""Ablations: each configuration of the loss ablation against the baseline, on the same test problems."""

from __future__ import annotations

import pandas as pd

from raybridge.plots import Column, Runs, against_first, band_told, elided, intervals_of, n_of, seeds_of

NEEDS = "python -m raybridge.sweep sweeps/loss_ablation.py"


def table(runs: Runs) -> pd.DataFrame:
    return against_first(runs, "loss_ablation")


def columns(rows: pd.DataFrame) -> dict[str, Column]:
    return {
        "label": Column(header="Configuration"),
        "accuracy": Column(header="Accuracy", format=".3f"),
        "shuffled": Column(header="Shuffled", format=".3f"),
        "difference": Column(header="Difference", format="+.3f", low="low", high="high"),
        "won": Column(header="Won"),
        "lost": Column(header="Lost"),
        "p_holm": Column(header="p (Holm)", format="p"),
        "verdict": Column(header="Verdict"),
    }


def caption(rows: pd.DataFrame) -> str:
    baseline = f"{elided(rows['baseline'].iloc[0], 40)} (accuracy {rows['baseline_accuracy'].iloc[0]:.3f})"
    return (
        f"Against {baseline} on {n_of(rows['n'])} test problems, {seeds_of(rows['seeds'])}: paired difference with its "
        f"interval ({intervals_of(rows['seeds'], 'bootstrap')}), problems won and lost, p. "
        f"{band_told(rows['aa_band'].iloc[0], rows['seeds'])}; inside one a difference is a tie, without one nothing is ranked."
    )
