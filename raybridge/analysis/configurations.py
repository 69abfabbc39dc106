"""Paired comparisons of whole configurations, for every figure and table that states a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raybridge.analysis.kinds import ordered
from raybridge.analysis.measures import of_first_reading, over_seeds
from raybridge.analysis.replicates import band_of
from raybridge.analysis.runs import Runs
from raybridge.arms import parse
from raybridge.statistics import against_control, compare, corrected

TIMED = 20  # problems whose times were taken apart, before these say anything


def per_problem(runs: Runs, rows: pd.DataFrame, arm: str) -> dict[str, pd.Series]:
    """Score of each problem by an arm, mean over the seeds, by label, on the problems that all have answered.

    `rows` are evaluations of one benchmark by one reading, a row for each trial.
    """
    columns: dict[str, pd.Series] = {}
    for label, part in rows.groupby("label", sort=False):
        seeds = []
        for row in part.to_dict("records"):
            answers = runs.scores(row["fingerprint"], row["evaluator"])
            seeds.append(answers[answers["arm"] == arm].set_index("problem")[f"score_{row['reading']}"])
        columns[str(label)] = pd.concat(seeds, axis=1).mean(axis=1)
    shared = pd.DataFrame(columns).dropna()
    return {label: shared[label] for label in columns}


def bridged_on_test(runs: Runs, fingerprints: set[str]) -> pd.DataFrame:
    """The bridged arm of these trials on test by the first reading, on the benchmark that comes first."""
    test = runs.test
    bridged = of_first_reading(test[(test["arm"] == "bridged") & test["fingerprint"].isin(fingerprints)])
    return bridged[bridged["evaluator"] == bridged["evaluator"].iloc[0]] if len(bridged) else bridged


def mean_gap(runs: Runs, row: Mapping[Any, Any]) -> tuple[float, float, float]:
    """Gap recovered by an arm and the ends of its interval, mean over the seeds in `fingerprint`; NaN where not measured."""
    found = [runs.gaps(one, row["evaluator"]).get(row["arm"]) for one in row["fingerprint"].split()]
    known = [gap for gap in found if gap is not None]
    if not known:
        return math.nan, math.nan, math.nan
    middle, low, high = np.mean(known, axis=0)
    return float(middle), float(low), float(high)


def against_first(runs: Runs, sweep: str) -> pd.DataFrame:
    """Each configuration of a sweep against the first one that it asked for, on the same test problems; p Holm-corrected.

    Seeds are averaged problem by problem before the test. A difference inside the A/A band is a tie.
    """
    bridged = bridged_on_test(runs, runs.asked_by(sweep))
    labels = in_plan(runs, sweep, bridged)
    if len(labels) < 2:
        return pd.DataFrame()
    baseline, *others = labels
    scores, shuffled = per_problem(runs, bridged, "bridged"), per_problem(runs, bridged, "shuffled")
    band = band_of(bridged)
    found = corrected([compare(scores[baseline], scores[label]) for label in others], band=band)
    controls = [compare(scores[baseline], shuffled[label]) for label in others]
    trials = runs.trials.drop_duplicates("label").set_index("label")
    rows: list[dict[str, Any]] = []
    for label, one, control in zip(others, found, controls, strict=True):
        prints = {name: set(bridged.loc[bridged["label"] == name, "fingerprint"]) for name in (label, baseline)}
        rows.append(
            {
                **{"label": label, "losses": trials["config.losses"].get(label), "baseline": baseline},
                **{"difference": one.difference, "low": one.interval[0], "high": one.interval[1], "p_holm": one.p},
                **{"won": one.wins, "lost": one.losses, "verdict": one.verdict, "n": one.n, "aa_band": band},
                **{"accuracy": scores[label].mean(), "baseline_accuracy": scores[baseline].mean()},
                **{"shuffled": shuffled[label].mean(), "shuffled_difference": control.difference},
                **{"shuffled_low": control.interval[0], "shuffled_high": control.interval[1], "seeds": len(prints[label])},
                "fingerprint": " ".join(sorted(prints[label] | prints[baseline])),
            }
        )
    return pd.DataFrame(rows)


def in_plan(runs: Runs, sweep: str, rows: pd.DataFrame) -> list[str]:
    """Labels of the rows in the order in which the sweep asked for them."""
    labels = dict(zip(rows["fingerprint"], rows["label"], strict=True))
    planned: Sequence[str] = runs.plans.get(runs.sweep or sweep, ())
    return list(dict.fromkeys(labels[one] for one in planned if one in labels))


def transfer(runs: Runs, bridged: pd.DataFrame) -> pd.DataFrame:
    """Bridged against shuffled soft tokens for each label: difference, interval, Holm-corrected p and the word for it."""
    ours, control = per_problem(runs, bridged, "bridged"), per_problem(runs, bridged, "shuffled")
    found = corrected([against_control(control[label], ours[label]) for label in ours])
    return pd.DataFrame(
        [
            {"label": label, "transfer": one.difference, "transfer_p": one.p, "transfer_verdict": one.verdict}
            for label, one in zip(ours, found, strict=True)
        ]
    )


def timed(runs: Runs, row: Mapping[Any, Any]) -> pd.Series:
    """Seconds by problem that an arm answered alone, the source's prefill included; of all seeds in `fingerprint`."""
    found = [pd.Series(dtype=float)]
    for one in row["fingerprint"].split():
        samples = runs.scores(one, row["evaluator"])
        if "latency_1" in samples:
            found.append(samples[samples["arm"] == row["arm"]].set_index("problem")["latency_1"].dropna())
    return pd.concat([one for one in found if len(one)] or found)


def costs(runs: Runs, arms: Sequence[str]) -> pd.DataFrame:
    """What answering costs: a row for each (pair, benchmark, K, arm) of the configurations that were best on dev.

    arms: names; those that were hardened or answered by another target are in it with them. timed: how many problems were
    answered one at a time; latency_median: of these, in seconds, where they are enough.
    """
    asked = [label for label in runs.test["arm"].unique() if parse(label).arm in arms]
    test = runs.test[runs.test["arm"].isin(asked) & runs.test["seconds"].gt(0)]
    if test.empty:
        return pd.DataFrame()
    rows = over_seeds(runs.best_on_dev(of_first_reading(test)))
    rows["seconds_per_problem"] = rows["seconds"] / rows["n"]
    rows["context_tokens"] = rows["prompt_tokens"] + rows["soft_tokens"]
    columns = ["pair", "evaluator", "label", "K", "arm", "accuracy", "low", "high", "seconds_per_problem", "context_tokens"]
    times = [timed(runs, row) for row in rows.to_dict("records")]
    rows["timed"] = [one.index.nunique() for one in times]
    rows["latency_median"] = pd.Series([one.median() for one in times], dtype=float).where(rows["timed"] >= TIMED)
    measured = [name for name in ("latency_1", "latency_batched", "kv_bytes") if name in rows and rows[name].notna().any()]
    kept = [*columns, "generated_tokens", *measured, "timed", "latency_median", "n", "seeds", "fingerprint"]
    order = {label: number for number, label in enumerate(ordered(asked))}
    by = ["pair", "evaluator", "arm", "K", "label"]
    return rows[kept].sort_values(by, key=lambda part: part.map(order) if part.name == "arm" else part, ignore_index=True)
