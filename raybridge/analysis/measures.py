"""Sample rows and evaluations as numbers: summaries, keys of frozen arms, gap recovered, means over seeds. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raybridge.config import Json, fingerprint
from raybridge.statistics import ratio_interval, wilson

FROZEN_ARMS = ("source", "target", "token_budget", "no_context", "zero")  # need no translator: kept once, as baselines
MORE_FROZEN_ARMS = ("random", "cascade", "source_answer_as_text", "joint")  # the same, where an evaluation asks for them
OF_K = ("token_budget", "zero", "random")  # frozen arms that depend on the number of soft tokens
OF_BOTH = ("cascade", "source_answer_as_text", "joint")  # frozen arms that pass one model's answers on to the other
QUANTISED_ARMS = ("bridged_fp16", "bridged_int8", "bridged_int6", "bridged_int4")  # soft tokens that went over the wire
TRANSLATOR_ARMS = ("bridged", "shuffled", "mean", "bridged_with_text", *QUANTISED_ARMS)
LENGTHS = ("prompt_tokens", "question_tokens", "generated_tokens")
COSTS = (
    *("prompt_bytes", "question_bytes", "kv_bytes"),
    *("wire_bytes", "wire_bytes_fp16", "wire_bytes_int8", "wire_bytes_int6", "wire_bytes_int4"),
    *("latency_1", "latency_batched", "peak_bytes"),
)
MEANS = (
    *("accuracy", "low", "high", "invalid", "truncated", "nll", "reconstruction_nll"),
    *("prompt_tokens", "question_tokens", "generated_tokens", "soft_tokens", "seconds"),
    *COSTS,
)


def frozen_identity(
    arm: str, *, source: str, target: str, evaluator: Json, soft_tokens: int, decoding: Json = None
) -> dict[str, Json]:
    """What the rows of a frozen arm depend on, the choice of problems left out. decoding: None for plain greedy decoding."""
    identity: dict[str, Json] = {
        "arm": arm,
        "model": source if arm == "source" else target,
        "evaluator": evaluator,
        "soft_tokens": soft_tokens if arm in OF_K else 0,
    }
    if arm in OF_BOTH:
        identity["source"] = source
    if decoding is not None:
        identity["decoding"] = decoding
    return identity


def baseline_key(arm: str, config: Mapping[str, Any], evaluator: str, split: str, problems: list[str]) -> str:
    """The key under which a frozen arm of a resolved trial is kept."""
    identity = frozen_identity(
        arm,
        source=config["source"],
        target=config["target"],
        evaluator=config["evaluator"],
        soft_tokens=config["translator"]["soft_tokens"],
    )
    return frozen_key(arm, identity, evaluator, split, problems)


def frozen_key(arm: str, identity: Mapping[str, Json], evaluator: str, split: str, problems: Sequence[str]) -> str:
    """The key under which a frozen arm is kept, by what its rows depend on."""
    return f"{arm}-{evaluator}-{split}-{fingerprint({**identity, 'problems': list(problems)})[:16]}"


def summarised(
    samples: pd.DataFrame, *, step: int, split: str, evaluator: str, readings: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of evals.parquet from sample rows: one for each arm and reading. What no row tells is absent or NaN, never 0."""
    readings = readings or [column.removeprefix("score_") for column in map(str, samples) if column.startswith("score_")]
    rows: list[dict[str, Any]] = []
    for arm, part in samples.groupby("arm", sort=False):
        n, shared = len(part), _measures(part)
        for reading in readings:
            score = float(part[f"score_{reading}"].sum())
            low, high = wilson(round(score), n)
            answers = part[f"answer_{reading}"]
            rows.append(
                {
                    **{"step": step, "evaluator": evaluator, "split": split, "arm": arm, "reading": reading, "n": n},
                    **{"correct": score, "accuracy": score / n, "low": low, "high": high},
                    "invalid": int(answers.isna().sum()),
                    "unique_answers": answers.nunique(dropna=False) / n,
                    **shared,
                }
            )
    return rows


def _measures(part: pd.DataFrame) -> dict[str, Any]:
    """What an arm measures whatever the reading. Costs are means over the problems that they were measured on."""
    said: dict[str, Any] = {
        "truncated": int(part["truncated"].sum()) if part["truncated"].notna().all() else None,
        "nll": _ratio(part, "nll", "nll_tokens"),
        "nll_tokens": int(part["nll_tokens"].sum()) if part["nll_tokens"].notna().all() else None,
        "reconstruction_nll": _ratio(part, "reconstruction_nll", "reconstruction_tokens"),
        **{name: part[name].mean() for name in LENGTHS if name in part},
        "soft_tokens": int(part["soft_tokens"].max()),
        "seconds": part["seconds"].sum(min_count=1),
    }
    if "first_token" in part and part["first_token"].notna().all():
        share = part["first_token"].value_counts(normalize=True)
        said["first_token_entropy"] = float((share * np.log2(1 / share)).sum())
    said |= {
        f"{name}_rate": part[name].astype(float).mean()
        for name in ("no_stop", "first_token_correct")
        if name in part and part[name].notna().all()
    }
    return said | {name: part[name].mean() for name in COSTS if name in part and part[name].notna().any()}


def _ratio(part: pd.DataFrame, above: str, below: str) -> float:
    """Sum over sum, NaN where nothing was measured."""
    if above not in part or part[above].isna().all():
        return float("nan")
    return float(part[above].sum() / part[below].sum())


def gaps_recovered(answers: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """(gap recovered, low, high) of each arm, on the problems that text and floor answered too.

    (floor NLL - arm NLL) / (floor NLL - text NLL); nothing where text does not help or where an NLL was not measured,
    nor for an arm that another target answered (`bridged@...`), whose floor is another.
    """
    if not {"target", "no_context"}.issubset(answers["arm"]):
        return {}
    table = answers[~answers["arm"].str.contains("@", regex=False)].pivot(index="problem", columns="arm", values="nll")
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
