"""Sample rows and evaluations as numbers: summaries, keys of frozen arms, gap recovered, means over seeds. No torch."""

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
LENGTHS = ("prompt_tokens", "question_tokens", "generated_tokens")
MEANS = (
    *("accuracy", "low", "high", "invalid", "truncated", "nll", "reconstruction_nll"),
    *("prompt_tokens", "question_tokens", "generated_tokens", "soft_tokens", "seconds"),
    *("question_bytes", "wire_bytes", "kv_bytes"),
)


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
                    **{name: part[name].mean() for name in LENGTHS if name in part},
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


def stacked(*tables: pd.DataFrame) -> pd.DataFrame:
    """Tables under one another; an empty one has no say in the types of the columns."""
    kept = [table for table in tables if len(table)]
    return pd.concat(kept, ignore_index=True) if kept else tables[0]


def of_first_reading(evals: pd.DataFrame) -> pd.DataFrame:
    """Only the rows of each benchmark's first reading."""
    if evals.empty:
        return evals
    first = evals.drop_duplicates(["fingerprint", "evaluator"])[["fingerprint", "evaluator", "reading"]]
    if len(set(first["reading"])) == 1:  # as good as always, and much faster than a join
        return evals[evals["reading"] == first["reading"].iloc[0]]
    return evals[evals["reading"] == evals.groupby(["fingerprint", "evaluator"])["reading"].transform("first")]


def over_seeds(evals: pd.DataFrame) -> pd.DataFrame:
    """Evaluations with the seeds of each group averaged: means of the scores and of the ends of their intervals.

    `fingerprint` holds those of all seeds; `seeds` counts them.
    """
    keys = ["label", "pair", "K", "evaluator", "split", "arm", "reading"]
    means = [name for name in MEANS if name in evals]
    grouped = evals.groupby(keys, sort=False, dropna=False)
    table = grouped[means].mean(numeric_only=False)
    table["seeds"] = grouped["fingerprint"].nunique()
    table["n"] = grouped["n"].max()
    table["fingerprint"] = grouped["fingerprint"].agg(lambda prints: " ".join(sorted(set(prints))))
    return table.reset_index()
