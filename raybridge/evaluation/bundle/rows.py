"""What every arm of a trial answered, as it stands in its results: the translator's by step, all others at step 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from raybridge.analysis.labels import name_of
from raybridge.analysis.measures import stacked
from raybridge.analysis.shared import Borrowed, Borrower
from raybridge.arms import every, parse
from raybridge.config import Json, resolve
from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.evaluation.identity import contents_of
from raybridge.results import Results, TrialRun
from raybridge.results.baselines import identity_in, stands_for
from raybridge.results.bundle import Place
from raybridge.results.find import decodings


def rows_of(run: TrialRun, results: Results) -> tuple[dict[Place, pd.DataFrame], list[str]]:
    """The rows of each evaluation, and what had to be left out, a sentence each."""
    found: dict[Place, pd.DataFrame] = {}
    for evaluator, split, step in run.sampled():
        samples = run.samples(evaluator, split, step)
        assert samples is not None
        found[Place(evaluator=evaluator, split=split, step=step)] = samples
    if not found:
        raise ValueError(f"{run.path.name} has no rows of an evaluation: there is nothing to export")
    left_out = []
    for evaluator, split in dict.fromkeys(place.benchmark for place in found):
        answered = stacked(*(rows for place, rows in found.items() if place.benchmark == (evaluator, split)))
        try:
            others = stacked(pd.DataFrame(), *_others(run, results, evaluator, split, answered))
        except ValueError as error:
            left_out.append(f"arms without a translator on {evaluator} ({split}): {error}")
            continue
        if len(others):
            found[Place(evaluator=evaluator, split=split, step=0)] = others
    return found, left_out


def _others(run: TrialRun, results: Results, evaluator: str, split: str, answered: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows of arms that need no translator, and of those that another trial's rows stand for, on the problems answered."""
    labels = answered["arm"].unique()
    place = {name: number for number, name in enumerate(answered["problem"].unique())}

    def own(rows: pd.DataFrame) -> pd.DataFrame:
        there = rows[rows["problem"].isin(place)].drop_duplicates("problem")
        return there.sort_values("problem", key=lambda ids: ids.map(place), kind="stable")

    config, contents = _as_asked(run, evaluator, split)
    asked: list[Json] = [None, *decodings(results)]
    for arm in every():
        if not arm.frozen or arm.borrows:
            continue
        kept = list(results.baselines_of(arm.name, evaluator, split))
        for decoding in asked:
            identity = identity_in(arm, config, contents, split, decoding)
            if alike := [rows for key, rows in kept if stands_for(key, rows, identity)]:
                yield own(stacked(*alike))
    hardenings = {"", *(parse(label).hardening for label in labels)}
    borrower = Borrower(fingerprint=run.fingerprint, config=config, contents=contents, hardenings=hardenings)
    lenders = [one for one in results.trials({}) if not one.config.get("imported")]
    lent = Borrowed(lenders).samples(borrower, evaluator, split, text=True)
    for _, rows in lent.groupby("arm", sort=False) if len(lent) else ():
        yield own(rows.drop(columns="step"))


def _as_asked(run: TrialRun, evaluator: str, split: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The resolved trial and its contents, as if it had been asked this benchmark: its own, or another that it was put to."""
    config, contents = run.config, run.contents
    assert contents is not None, "a trial without contents is not exported"
    if evaluator == name_of(config["evaluator"]):
        return config, contents
    judge = load_evaluator(evaluator)
    read = contents_of(config["source"], config["target"], judge, splits=(split,), device=contents["device"])  # type: ignore[arg-type]
    benchmark = resolve(read.benchmark)
    return {**config, "evaluator": resolve(judge)}, {**contents, "benchmark": benchmark}
