"""Sample rows and evaluations as numbers: summaries, gap recovered. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raybridge.analysis.kinds import own_tokens
from raybridge.analysis.times import median_interval
from raybridge.results.schema import COSTS, LENGTHS, TIMES
from raybridge.statistics import paired_bootstrap, ratio_interval, wilson


def score_columns(samples: pd.DataFrame) -> list[str]:
    """The columns that hold scores, the first reading first."""
    return [column for column in map(str, samples) if column.startswith("score_")]


def readings_of(samples: pd.DataFrame) -> list[str]:
    """How the answers of sample rows were read, the reading that decides first."""
    return [column.removeprefix("score_") for column in score_columns(samples)]


def summarised(
    samples: pd.DataFrame, *, step: int, split: str, evaluator: str, readings: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of evals.parquet from sample rows: one for each arm and reading. What no row tells is absent or NaN, never 0."""
    rows: list[dict[str, Any]] = []
    for arm, part in samples.groupby("arm", sort=False):
        n, shared = len(part), _measures(part)
        for reading in readings or readings_of(samples):
            score = float(part[f"score_{reading}"].sum())
            low, high = interval_of(part[f"score_{reading}"])
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


def interval_of(scores: pd.Series) -> tuple[float, float]:
    """95% interval of a mean score: Wilson's where answers are right or wrong, else (such as F1) a bootstrap over problems."""
    if scores.isin((0, 1)).all():
        return wilson(int(scores.sum()), len(scores))
    return paired_bootstrap(np.zeros(len(scores)), scores)


def _measures(part: pd.DataFrame) -> dict[str, Any]:
    """What an arm measures whatever the reading, over the problems it was measured on: medians of times, means of bytes."""
    said: dict[str, Any] = {
        "truncated": int(part["truncated"].sum()) if _whole(part, "truncated") else None,
        "nll": _ratio(part, "nll", "nll_tokens"),
        "nll_tokens": int(part["nll_tokens"].sum()) if _whole(part, "nll_tokens") else None,
        "reconstruction_nll": _ratio(part, "reconstruction_nll", "reconstruction_tokens"),
        **{name: _mean(part, name) for name in LENGTHS if name in part},
        "soft_tokens": int(part["soft_tokens"].max()) if _some(part, "soft_tokens") else None,
        "seconds": float(part["seconds"].sum()) if _some(part, "seconds") else float("nan"),
    }
    if _whole(part, "answer_bytes"):
        said["bits_per_byte"] = _ratio(part, "nll", "answer_bytes") / math.log(2)
    if _whole(part, "first_token"):
        share = part["first_token"].value_counts(normalize=True)
        said["first_token_entropy"] = float((share * np.log2(1 / share)).sum())
    rates = [name for name in ("no_stop", "first_token_correct") if _whole(part, name)]
    said |= {f"{name}_rate": part[name].astype(float).mean() for name in rates}
    said |= {name: _mean(part, name) for name in COSTS if name not in TIMES and _some(part, name)}
    for name in (name for name in TIMES if _some(part, name)):
        said[name], low, high = median_interval(part[name].astype(float))
        said |= {} if math.isnan(low) else {f"{name}_low": low, f"{name}_high": high}
    return said


def _some(part: pd.DataFrame, name: str) -> bool:
    """Whether a column was measured on any row."""
    return name in part and bool(part[name].notna().any())


def _whole(part: pd.DataFrame, name: str) -> bool:
    """Whether it was measured on all of them."""
    return name in part and bool(part[name].notna().all())


def _mean(part: pd.DataFrame, name: str) -> float:
    return float(part[name].mean()) if _some(part, name) else float("nan")


def _ratio(part: pd.DataFrame, above: str, below: str) -> float:
    """Sum over sum, NaN where nothing was measured."""
    return float(part[above].sum() / part[below].sum()) if _some(part, above) else float("nan")


def with_question_kv(rows: pd.DataFrame) -> pd.DataFrame:
    """Evaluations with `question_kv_bytes`; where it is not on disk, what the prompt holds beyond that of `no_context`.

    The exemplars and the frame stand in every arm alike: only the question's part can be saved.
    """
    if "kv_bytes" not in rows:
        return rows
    keys = ["fingerprint", "evaluator", "reading"]
    floors = rows[rows["arm"] == "no_context"].drop_duplicates(keys).set_index(keys)["kv_bytes"]
    floor = pd.Series([floors.get(key) for key in rows[keys].itertuples(index=False, name=None)], index=rows.index, dtype=float)
    floor = floor.where(rows["arm"].map({label: own_tokens(label) for label in rows["arm"].unique()}).astype(bool))
    known = rows.get("question_kv_bytes", pd.Series(math.nan, index=rows.index)).astype(float)
    return rows.assign(question_kv_bytes=known.fillna(rows["kv_bytes"].astype(float) - floor))


def gaps_recovered(answers: pd.DataFrame, measure: str = "nll") -> dict[str, tuple[float, float, float]]:
    """(gap recovered, low, high) of each arm, on the problems that text and floor answered too.

    (floor NLL - arm NLL) / (floor NLL - text NLL), of the answer or, by `reconstruction_nll`, of the question; nothing where
    text does not help or where an NLL was not measured.
    """
    parts = gap_parts(answers, measure).items()
    return {
        arm: (part["closed"].mean() / part["gap"].mean(), *ratio_interval(part["closed"], part["gap"])) for arm, part in parts
    }


def gap_parts(answers: pd.DataFrame, measure: str = "nll") -> dict[str, pd.DataFrame]:
    """By arm, for each problem what it closed of the gap (floor NLL - arm NLL), and the gap (floor NLL - text NLL).

    Of the target alone: what another model answers, be it the source or another target, has another floor and other tokens.
    """
    if measure not in answers or not {"target", "no_context"}.issubset(answers["arm"]):
        return {}
    own = answers[answers["arm"].map({label: own_tokens(label) for label in answers["arm"].unique()}).astype(bool)]
    table = own.pivot(index="problem", columns="arm", values=measure).astype(float)
    gap = table["no_context"] - table["target"]
    parts = {str(arm): pd.DataFrame({"closed": table["no_context"] - table[arm], "gap": gap}).dropna() for arm in table}
    return {arm: part for arm, part in parts.items() if len(part) > 1 and part["gap"].mean() > 0}


def shots_told(shots: Iterable[float | None]) -> str:
    """How many exemplars stood before every question, in words; empty where nothing is on record."""
    known = sorted({int(one) for one in shots if one is not None and not math.isnan(one)})
    if len(known) > 1:
        return f"{known[0]} to {known[-1]} shots, not the same in every arm"
    return f"{known[0]} shot{'' if known[0] == 1 else 's'} in every arm" if known else ""


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
