"""Bundles join ray_results/, marked as imported: rows, evaluations, metrics and result; no weights.

Rows of arms without a translator stand at step 0 of the imported trial: they are no baselines, which other trials would take
for their own. Its config says `bundle`, so that it is no seed of a trial of the same config that ran here, and its name ends in
`_imported`. It does not say `imported`: figures take that for a run that was watched on its test problems.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.analysis.kinds import are, trained
from raybridge.analysis.labels import name_of
from raybridge.analysis.measures import summarised
from raybridge.arms import find
from raybridge.config import check_seed, fingerprint, rebuild, typed
from raybridge.errors import reason_of
from raybridge.results import Results, TrialRun
from raybridge.results.bundle import PROVENANCE, RESULT, TRIAL, Bundle, Place
from raybridge.results.contents import Contents
from raybridge.trial import NAME

CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
OF_CONFIG: Mapping[str, tuple[type, ...]] = {  # what figures and tables go by in a resolved trial
    **dict.fromkeys(("source", "target"), (str,)),
    **dict.fromkeys(("translator", "evaluator"), (dict,)),
    **{"losses": (list,), "seed": (int,), "steps": (int,)},
    **dict.fromkeys(("dev_problems", "test_problems"), (int, type(None))),
}
MARK = "_imported"  # ends its name
OF_RESULT: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("steps", "peak_step", "best_step"), (int,)),
    **dict.fromkeys(("stopped", "reason"), (str,)),
    **dict.fromkeys(("peak", "best", "final", "degradation"), (int, float)),
    **{"arm": (str,), "gpus": (int,)},
    **dict.fromkeys(("shuffled_dev_at_peak", "train_seconds", "eval_wait_seconds"), (int, float, type(None))),
}
SCORES = ("accuracy", "n", "low", "high", "nll")  # of an arm on test, in result.json
OF_PROVENANCE: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "commit": {"id": (str, type(None)), "dirty": (bool, type(None))},
    "hardware": {"machine": (str,), "cores": (int, type(None)), "gpus": (list,)},
    "versions": {},
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """A bundle, read and held to what a trial is. config: resolved, with its contents; result: without the scores on test."""

    bundle: Bundle
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    provenance: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    rows: Mapping[Place, pd.DataFrame]
    evals: Sequence[Mapping[str, Any]]
    conditioning: Mapping[str, pd.DataFrame]


def read_bundle(path: Path) -> Told:
    """Read a bundle whole. ValueError where a file is not what was written, or is not what a trial has."""
    bundle = Bundle(path)
    bundle.check()
    rows = {place: bundle.rows(place) for place in bundle.places}
    if not rows:
        raise ValueError(f"{path} has no rows of an evaluation")
    if not NAME.fullmatch(bundle.trial["name"]):
        raise ValueError(f"{path / TRIAL}: {bundle.trial['name'][:80]!r} is no name of a trial")
    config = dict(bundle.trial["config"])
    _check_config(config, f"{path / TRIAL}: config")
    contents = _contents(bundle.trial["contents"], f"{path / TRIAL}: contents")
    result, provenance = bundle.record(RESULT), bundle.record(PROVENANCE)
    where = str(path / RESULT)
    if "arm" in result:
        find(_of_kind(result, "arm", (str,), where))  # figures ask what it must beat
    return Told(
        bundle=bundle,
        config={**config, "contents": contents},
        result={name: _of_kind(result, name, kinds, where) for name, kinds in OF_RESULT.items() if name in result},
        provenance={
            part: _part(provenance[part], kinds, f"{path / PROVENANCE}: {part}")
            for part, kinds in OF_PROVENANCE.items()
            if part in provenance
        },
        metrics=bundle.metrics(),
        rows=rows,
        evals=[row for place, samples in rows.items() for row in _summary(place, samples)],
        conditioning=bundle.conditioning(),
    )


def write_imported(told: Told, results: Results) -> TrialRun:
    """Write a bundle into the results; writing it again changes nothing."""
    bundle = told.bundle
    of = f"from the bundle of {bundle.name}; what it says was not computed here"
    name = bundle.trial["name"] + MARK
    run = results.open_trial(
        name=name,
        fingerprint=fingerprint({**told.config, "bundle": True, "files": bundle.sums}),
        config={**told.config, "name": name, "bundle": True},
        provenance={**told.provenance, "imported": True, "files": bundle.sums, "notes": [of]},
    )
    logged = set(run.metrics()["step"])
    for row in told.metrics:
        if row["step"] not in logged:
            run.append_metrics(row)
    for place, samples in told.rows.items():
        run.write_samples(place.evaluator, place.split, place.step, samples)
    run.add_evals(told.evals)
    for evaluator, table in told.conditioning.items():
        run.write_conditioning(evaluator, table)
    identity = {"name": run.name, "fingerprint": run.fingerprint, "imported": True}
    run.finish({**identity, **told.result, "test": _test(run, told), "notes": [of]})
    return run


def _summary(place: Place, samples: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of evals.parquet of an evaluation, marked."""
    rows = summarised(samples, step=place.step, split=place.split, evaluator=place.evaluator)
    return [{**row, "imported": True} for row in rows]


def _test(run: TrialRun, told: Told) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores on test of the translator's arms at its best step, by arm and reading."""
    evals = run.evals()
    mine = evals[(evals["split"] == "test") & (evals["evaluator"] == name_of(told.config["evaluator"]))]
    mine = mine[are(mine["arm"], trained) & (mine["step"] == told.bundle.facts["step"])]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in mine.to_dict("records"):
        numbers = {name: None if math.isnan(row[name]) else row[name] for name in SCORES}
        found.setdefault(row["arm"], {})[row["reading"]] = numbers
    return found


def _check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse a resolved trial that a table or a figure could not read."""
    for name, kinds in OF_CONFIG.items():
        _of_kind(config, name, kinds, where)
    _of_kind(config["translator"], "soft_tokens", (int,), f"{where}.translator")
    check_seed(f"{where}: seed", config["seed"])
    for part in (config["translator"], config["evaluator"], *config["losses"]):
        if not isinstance(part, dict) or not CLASS.fullmatch(str(part.get("class"))):
            raise ValueError(f"{where}: {str(part)[:80]!r} is no config that names its class")


def _contents(contents: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The contents, which must be what this raybridge takes for them: rows that are shared are found by them."""
    try:
        built = rebuild(dict(contents))
    except Exception as error:  # from elsewhere: each class refuses in its own way
        raise ValueError(f"{where}: {reason_of(error)}") from None
    if not isinstance(built, Contents):
        raise ValueError(f"{where} are those of a {type(built).__name__}")
    typed(built)
    return contents


def _part(value: Any, kinds: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    """A part of provenance.json: these fields of these kinds, or text by name where there are none."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, not {str(value)[:80]!r}")
    named = kinds or dict.fromkeys(value, (str, type(None)))
    part = {name: _of_kind(value, name, kind, where) for name, kind in named.items()}
    if not all(isinstance(one, str) for one in part.get("gpus", ())):
        raise ValueError(f"{where}: gpus must be names")
    return part


def _of_kind(record: Mapping[str, Any], name: str, kinds: tuple[type, ...], where: str) -> Any:
    """A field of a record, which must be of one of these kinds."""
    value = record.get(name)
    if type(value) not in kinds:
        called = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{where}: {name} must be {called}, not {str(value)[:80]!r}")
    return value
