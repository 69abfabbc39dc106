"""Sample rows as numbers: summaries, the keys of frozen arms, gap recovered. What evaluation does, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from raybridge.config import fingerprint
from raybridge.statistics import ratio_interval, wilson

FROZEN_ARMS = ("source", "target", "token_budget", "no_context", "zero")  # need no translator: kept once, as baselines
OF_K = ("token_budget", "zero")  # frozen arms that depend on the number of soft tokens
TRANSLATOR_ARMS = ("bridged", "shuffled", "bridged_with_text", "random", "mean", "joint")
MEANS = ("prompt_tokens", "question_tokens", "generated_tokens")


def baseline_key(arm: str, config: Mapping[str, Any], evaluator: str, split: str, problems: list[str]) -> str:
    """The key under which evaluation keeps a frozen arm (`evaluation.baseline_requests`; a test holds the two together)."""
    identity = {
        "arm": arm,
        "model": config["source"] if arm == "source" else config["target"],
        "evaluator": config["evaluator"],
        "problems": problems,
        "soft_tokens": config["translator"]["soft_tokens"] if arm in OF_K else 0,
    }
    return f"{arm}-{evaluator}-{split}-{fingerprint(identity)[:16]}"


def summarised(samples: pd.DataFrame, *, step: int, split: str, evaluator: str) -> list[dict[str, Any]]:
    """Rows like those of evals.parquet from sample rows."""
    readings = [column.removeprefix("score_") for column in map(str, samples) if column.startswith("score_")]
    rows: list[dict[str, Any]] = []
    for arm, part in samples.groupby("arm", sort=False):
        n = len(part)
        for reading in readings:
            score = float(part[f"score_{reading}"].sum())
            low, high = wilson(round(score), n)
            rows.append(
                {
                    **{"step": step, "evaluator": evaluator, "split": split, "arm": arm, "reading": reading, "n": n},
                    **{"correct": score, "accuracy": score / n, "low": low, "high": high},
                    "invalid": int(part[f"answer_{reading}"].isna().sum()),
                    "truncated": int(part["truncated"].sum()),
                    "nll": part["nll"].sum() / part["nll_tokens"].sum(),
                    "nll_tokens": int(part["nll_tokens"].sum()),
                    **{name: part[name].mean() for name in MEANS if name in part},
                    "soft_tokens": int(part["soft_tokens"].max()),
                    "seconds": part["seconds"].sum(),
                }
            )
    return rows


def gaps_recovered(answers: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """(gap recovered, low, high) of each arm, on the problems that text and floor answered too.

    (floor NLL - arm NLL) / (floor NLL - text NLL); nothing where text does not help or where an NLL was not measured.
    """
    if not {"target", "no_context"}.issubset(answers["arm"]):
        return {}
    table = answers.pivot(index="problem", columns="arm", values="nll")
    nll = table.to_numpy(dtype=float)
    floor, text = (nll[:, table.columns.get_loc(arm)] for arm in ("no_context", "target"))
    found = {}
    for column, arm in enumerate(table.columns):
        there = np.isfinite(nll[:, column] + floor + text)
        closed, gap = (floor - nll[:, column])[there], (floor - text)[there]
        if len(gap) > 1 and gap.mean() > 0:
            found[str(arm)] = (float(closed.mean() / gap.mean()), *ratio_interval(closed, gap))
    return found
