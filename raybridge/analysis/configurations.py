"""Paired comparisons of whole configurations, for every figure and table that states a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from raybridge.analysis.kinds import against, ordered
from raybridge.analysis.measures import of_first_reading, with_question_kv
from raybridge.analysis.replicates import unranked
from raybridge.analysis.runs import Runs
from raybridge.analysis.seeds import aligned, joined, over_seeds, scores_of
from raybridge.analysis.times import TIMED, median_interval
from raybridge.arms import parse
from raybridge.results.schema import TIMES
from raybridge.statistics import ENOUGH_SEEDS, against_control, compare, corrected, two_level_interval


def per_problem(runs: Runs, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Score of each problem by the rows' arm, mean over the seeds, by label, on the problems that all have answered.

    `rows` are evaluations of one benchmark by one reading, a row for each trial.
    """
    columns: dict[str, pd.Series] = {}
    for label, part in rows.groupby("label", sort=False):
        seeds = [scores_of(runs, row["fingerprint"], row) for row in part.to_dict("records")]
        columns[str(label)] = pd.concat(seeds, axis=1).mean(axis=1)
    shared = pd.DataFrame(columns).dropna()
    return {label: shared[label] for label in columns}


def own_on_test(runs: Runs, fingerprints: set[str]) -> pd.DataFrame:
    """These trials on test by the first reading, each by the arm that ranks it, on the benchmark that comes first."""
    test = runs.test
    judged_by = test["fingerprint"].map(runs.trials.set_index("fingerprint")["judged_by"])
    own = of_first_reading(test[(test["arm"] == judged_by) & test["fingerprint"].isin(fingerprints)])
    return own[own["evaluator"] == own["evaluator"].iloc[0]] if len(own) else own


def compressed(runs: Runs) -> set[str]:
    """What figures of compression show, of the trials that soft tokens alone rank: others train what reads the text as well."""
    alone = runs.trials.loc[runs.trials["judged_by"] == "bridged", "fingerprint"]
    return runs.asked_by("compression") & set(alone)


def controls_of(own: pd.DataFrame) -> pd.DataFrame:
    """The same rows as if they were of their arms' controls, by which scores are found."""
    return own.assign(arm=own["arm"].map(against))


def against_first(runs: Runs, sweep: str) -> pd.DataFrame:
    """Each configuration of a sweep against the first one that it asked for, on the same test problems; p Holm-corrected.

    Seeds are averaged problem by problem before the test; from three seeds on both sides the interval has two levels. A
    difference inside the A/A band, or whose interval holds 0, is a tie; without a band there is no verdict, and none between
    trials that are judged by different arms.
    """
    bridged = own_on_test(runs, runs.asked_by(sweep))
    labels = in_plan(runs, sweep, bridged)
    if len(labels) < 2:
        return pd.DataFrame()
    baseline, *others = labels
    scores, shuffled = per_problem(runs, bridged), per_problem(runs, controls_of(bridged))
    band = runs.band(bridged)
    found = corrected([compare(scores[baseline], scores[label]) for label in others], band=band)
    controls = [compare(scores[baseline], shuffled[label]) for label in others]
    trials = runs.trials.drop_duplicates("label").set_index("label")
    of_label = {str(label): part for label, part in bridged.groupby("label", sort=False)}
    rows: list[dict[str, Any]] = []
    for label, one, control in zip(others, found, controls, strict=True):
        mine, first = of_label[label], of_label[baseline]
        low, high = interval_between(runs, mine, first) or one.interval
        word = "tie" if low <= 0 <= high else str(one.verdict)
        word = word if band is not None else unranked(bridged["label"].value_counts())
        alike = mine["arm"].iloc[0] == first["arm"].iloc[0]
        each = mine.sort_values("fingerprint")["accuracy"] - scores[baseline].mean()
        rows.append(
            {
                **{"label": label, "losses": trials["config.losses"].get(label), "baseline": baseline},
                **{"difference": one.difference, "low": low, "high": high, "by_seed": joined(list(each)), "p_holm": one.p},
                **{"won": one.wins, "lost": one.losses, "n": one.n, "aa_band": band},
                "verdict": word if alike else "another arm",
                "arm": mine["arm"].iloc[0],
                **{"accuracy": scores[label].mean(), "baseline_accuracy": scores[baseline].mean()},
                **{"shuffled": shuffled[label].mean(), "shuffled_difference": control.difference},
                **{"shuffled_low": control.interval[0], "shuffled_high": control.interval[1], "seeds": len(mine)},
                "fingerprint": " ".join(sorted({*mine["fingerprint"], *first["fingerprint"]})),
            }
        )
    return pd.DataFrame(rows)


def interval_between(runs: Runs, mine: pd.DataFrame, first: pd.DataFrame) -> tuple[float, float] | None:
    """Interval of two levels of the difference of two configurations, rows of their seeds; None of fewer than three seeds."""
    if min(len(mine), len(first)) < ENOUGH_SEEDS:
        return None
    scores = aligned(scores_of(runs, row["fingerprint"], row) for part in (mine, first) for row in part.to_dict("records"))
    return two_level_interval(scores[: len(mine)], minus=scores[len(mine) :])


def in_plan(runs: Runs, sweep: str, rows: pd.DataFrame) -> list[str]:
    """Labels of the rows in the order in which the sweep asked for them."""
    labels = dict(zip(rows["fingerprint"], rows["label"], strict=True))
    planned: Sequence[str] = runs.plans.get(runs.sweep or sweep, ())
    return list(dict.fromkeys(labels[one] for one in planned if one in labels))


def transfer(runs: Runs, bridged: pd.DataFrame) -> pd.DataFrame:
    """The rows' arm against its control for each label: difference, interval, Holm-corrected p and the word for it."""
    ours, control = per_problem(runs, bridged), per_problem(runs, controls_of(bridged))
    found = corrected([against_control(control[label], ours[label]) for label in ours])
    return pd.DataFrame(
        [
            {"label": label, "transfer": one.difference, "transfer_p": one.p, "transfer_verdict": one.verdict}
            for label, one in zip(ours, found, strict=True)
        ]
    )


def timed(runs: Runs, row: Mapping[Any, Any]) -> pd.DataFrame:
    """Seconds by problem that an arm answered alone, a column for each of `TIMES`; mean over the seeds in `fingerprint`."""
    prints = row["fingerprint"].split()
    found = [samples for one in prints if (samples := runs.by_arm(one, row["evaluator"]).get(row["arm"])) is not None]
    times = pd.concat([samples.reindex(columns=list(TIMES)).astype(float) for samples in found])
    return times.dropna(subset=["latency_1"]).groupby(level=0).mean()


def costs(runs: Runs, arms: Sequence[str]) -> pd.DataFrame:
    """What answering costs: a row for each (pair, benchmark, K, arm) of the configurations that were best on dev.

    arms: names; those that were hardened or answered by another target are in it with them. timed: how many problems were
    answered one at a time; *_median, *_low, *_high: of these, in seconds, where they are enough; latency: of whole answers.
    """
    test = with_question_kv(runs.test)
    asked = [label for label in test["arm"].unique() if parse(label).arm in arms]
    test = test[test["arm"].isin(asked) & test["seconds"].gt(0)]
    if test.empty:
        return pd.DataFrame()
    rows = over_seeds(runs, runs.best_on_dev(of_first_reading(test)))
    rows["seconds_per_problem"] = rows["seconds"] / rows["n"]
    rows["context_tokens"] = rows["prompt_tokens"] + rows["soft_tokens"]
    rows["shots"] = rows.get("shots", float("nan"))
    columns = ["pair", "evaluator", "label", "K", "arm", "accuracy", "low", "high", "seconds_per_problem", "context_tokens"]
    times = [timed(runs, row) for row in rows.to_dict("records")]
    rows["timed"] = [len(one) for one in times]
    told = {"latency_1": "latency"} | {name: name for name in TIMES[1:]}
    ends = [f"{name}_{end}" for name in told.values() for end in ("median", "low", "high")]
    medians = [[end for name in told for end in median_interval(one[name])] for one in times]
    rows = rows.drop(columns=[end for end in ends if end in rows])  # of evals, however few were timed
    rows[ends] = pd.DataFrame(medians, index=rows.index).where(rows["timed"] >= TIMED)
    measured = [
        name
        for name in ("latency_1", "latency_batched", "kv_bytes", "question_kv_bytes")
        if name in rows and rows[name].notna().any()
    ]
    kept = [*columns, "by_seed", "generated_tokens", *measured, "timed", *ends, "shots", "n", "seeds", "fingerprint"]
    order = {label: number for number, label in enumerate(ordered(asked))}
    by = ["pair", "evaluator", "arm", "K", "label"]
    return rows[kept].sort_values(by, key=lambda part: part.map(order) if part.name == "arm" else part, ignore_index=True)
