"""Sample rows as numbers: summaries, the keys of frozen arms, gap recovered. What evaluation does, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def gap_recovered(answers: pd.DataFrame, arm: str) -> tuple[float, float, float] | None:
    """(gap recovered, low, high) of an arm, on the problems that text and floor answered too; None where text does not help."""
    nll = answers.pivot(index="problem", columns="arm", values="nll")
    if not {arm, "target", "no_context"}.issubset(nll):
        return None
    nll = nll[[*{arm: None, "target": None, "no_context": None}]].dropna()
    closed, gap = nll["no_context"] - nll[arm], nll["no_context"] - nll["target"]
    if len(nll) < 2 or gap.mean() <= 0:
        return None
    return (float(closed.mean() / gap.mean()), *ratio_interval(closed, gap))
