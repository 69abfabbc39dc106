"""Provenance: what every trial ran on, from the files that it wrote before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from raybridge.plots import Column, Runs

NEEDS = "python -m raybridge.sweep sweeps/compression.py"


def table(runs: Runs) -> pd.DataFrame:
    rows = [row(trial, runs.provenance(trial["fingerprint"])) for trial in runs.trials.to_dict("records")]
    return pd.DataFrame(rows)


def row(trial: Mapping[Any, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """One trial."""
    commit, hardware, versions = (told.get(name) or {} for name in ("commit", "hardware", "versions"))
    return {
        **{"label": trial["label"], "seed": trial["seed"], "short": trial["fingerprint"][:8], "pair": trial["pair"]},
        "state": "imported" if trial["imported"] else "complete" if trial["complete"] else "not complete",
        "commit": (commit.get("id") or "unknown")[:8] + (" + changes" if commit.get("dirty") else ""),
        **{"torch": versions.get("torch"), "transformers": versions.get("transformers"), "ray": versions.get("ray")},
        "hardware": machine(hardware),
        "fingerprint": trial["fingerprint"],
    }


def machine(hardware: Mapping[str, Any]) -> str | None:
    """The machine in a few words."""
    if not hardware:
        return None
    gpus = hardware.get("gpus") or []
    return f"{len(gpus)} x {gpus[0]}" if gpus else f"{hardware.get('cores')} CPU cores, {hardware.get('machine')}"


def columns(rows: pd.DataFrame) -> dict[str, Column]:
    return {
        "label": Column(header="Trial"),
        "seed": Column(header="Seed", format=".0f"),
        "short": Column(header="Fingerprint"),
        "state": Column(header="State"),
        "commit": Column(header="Commit"),
        "torch": Column(header="torch"),
        "hardware": Column(header="Hardware"),
    }


def caption(rows: pd.DataFrame) -> str:
    return f"{len(rows)} trials: the identity of each, the commit and the machine that it ran on."
