"""A bundle checked: its files, then what follows from its rows, then a sample of the rows computed again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from raybridge.config import rebuild
from raybridge.data import Evaluator
from raybridge.errors import reason_of
from raybridge.evaluation.bundle.again import Again
from raybridge.evaluation.bundle.export import judge_of
from raybridge.evaluation.bundle.findings import Findings
from raybridge.evaluation.bundle.grades import check_answers, check_scores
from raybridge.evaluation.bundle.sums import check_frames, check_result, check_tables
from raybridge.evaluation.provenance import commit
from raybridge.results.bundle import METRICS, Bundle, Place
from raybridge.trial import Trial


def verify(path: Path, *, problems: int, device: str) -> Findings:
    """Check a bundle. problems: of each benchmark, drawn by seed 0, that are answered again. device: what computes them."""
    bundle, found = Bundle(path), Findings()
    found.compared(f"{len(bundle.sums)} files are what SHA256SUMS says", list(bundle.damage()))
    rows: dict[Place, pd.DataFrame] = {}
    for place in bundle.places:
        with found.held(place.file):
            rows[place] = bundle.rows(place)
    if not bundle.places:
        found.differs.append("rows/: it has no rows of an evaluation")
    readable = False
    with found.held("what the bundle is of"):
        _ = bundle.facts
        found.checked.append(f"trial.json is the config and the contents of {bundle.name}")
        readable = True
    if not (rows and readable):
        return found
    check_frames(bundle, rows, found)
    check_tables(bundle, rows, found)
    check_result(bundle, rows, found)
    if bundle.has(METRICS):
        found.unchecked.append(f"{METRICS}: what training logged follows from no rows")
    try:
        trial = trial_of(bundle)
    except ValueError as error:
        found.unchecked.append(f"answers, scores and a sample of the rows: {error}")
        return found
    if found.differs and (wrote := bundle.facts.get("commit")) != (here := commit()["id"]):
        found.unchecked.append(
            f"whether that is due to another raybridge: it was written at commit {wrote}, and this is {here}"
        )
    judges = _judges(trial, list(rows), found)
    check_answers(rows, judges, found)
    check_scores(trial, rows, judges, found)
    Again(bundle=bundle, trial=trial, rows=rows, judges=judges, found=found, device=device, count=problems).check()
    return found


def trial_of(bundle: Bundle) -> Trial:
    """The trial of a bundle, where this raybridge has its classes at these versions."""
    told = bundle.trial
    try:
        trial = rebuild({**told["config"], "contents": told["contents"]})
    except Exception as error:  # a config from elsewhere: each class checks its fields in its own way
        raise ValueError(f"the config cannot be built here: {reason_of(error)}") from None
    if not isinstance(trial, Trial):
        raise ValueError("the config is not that of a trial")
    return trial


def _judges(trial: Trial, places: list[Place], found: Findings) -> dict[str, Evaluator]:
    """The benchmarks that are known here, by name."""
    judges = {}
    for name in dict.fromkeys(place.evaluator for place in places):
        try:
            judges[name] = judge_of(trial, name)
        except ValueError as error:
            found.unchecked.append(f"answers and scores on {name}: {error}")
    return judges
