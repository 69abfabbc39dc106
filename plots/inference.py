"""Inference: latency and context held by the target, for every arm of the configurations that were best on dev."""

from __future__ import annotations

import pandas as pd

from raybridge.plots import TIMED, Column, Runs, arms, costs, kinds, n_of, shots_told

NEEDS = "python -m raybridge.sweep sweeps/compression.py"

TIMES = {
    "latency": "Latency",
    "prefill_source": "Source",
    "prefill_translator": "Translator",
    "prefill_target": "Target",
    "seconds_a_token": "A token",
}
KV = {"kv_bytes": "KV bytes", "question_kv_bytes": "of the question"}


def table(runs: Runs) -> pd.DataFrame:
    rows = costs(runs, [arm.name for arm in arms.every() if kinds.costed(arm)])
    if rows.empty:
        return rows
    frozen = kinds.are(rows["arm"], lambda arm: arm.frozen and not arm.of_k)
    once = rows[frozen].drop_duplicates(["pair", "evaluator", "arm"]).assign(K=None)
    rows = pd.concat([once.astype({"K": float}), rows[~frozen].astype({"K": float})], ignore_index=True)
    return rows.sort_values(["pair", "evaluator"], kind="stable", ignore_index=True)


def several(rows: pd.DataFrame) -> bool:
    """Whether the rows are of more than one pair or benchmark."""
    return len(rows[["evaluator", "pair"]].drop_duplicates()) > 1


def columns(rows: pd.DataFrame) -> dict[str, Column]:
    told = [(name, header) for name, header in TIMES.items() if rows[f"{name}_median"].notna().any()]
    return {
        **({name: Column(header="", heads=True) for name in ("evaluator", "pair")} if several(rows) else {}),
        "arm": Column(header="Arm", format="words"),
        "K": Column(header="K", format=".0f"),
        "accuracy": Column(header="Accuracy", format=".3f", low="low", high="high"),
        **{
            f"{name}_median": Column(header=header, format=".4f", low=f"{name}_low", high=f"{name}_high")
            for name, header in told
        },
        "context_tokens": Column(header="Context", format=".0f"),
        "generated_tokens": Column(header="Written", format=".0f"),
        **({name: Column(header=header, format=",.0f") for name, header in KV.items() if name in rows}),
    }


def caption(rows: pd.DataFrame) -> str:
    apart = rows.loc[rows["latency_median"].notna(), "timed"]
    latency = (
        f"Latency: seconds of problems answered one at a time, {n_of(apart)} timed, the source's prefill included; source, "
        "translator, target: to the first token; medians with 95% intervals over the problems."
        if len(apart)
        else f"No latency: fewer than {TIMED} problems were timed apart (evaluate --timed {TIMED})."
    )
    told = shots_told(rows["shots"])
    return (
        f"{n_of(rows['n'])} test problems{', ' + told if told else ''}. {latency} "
        "Context: prompt and soft tokens that the answering model holds, exemplars included; only what stands in the "
        "question's place can be saved. Written: tokens of the answer. At each K the "
        "configuration that was best on dev."
    )
