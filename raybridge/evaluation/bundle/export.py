"""A trial's results as the files of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raybridge.arms import parse
from raybridge.config import rebuild, resolve
from raybridge.data import Evaluator
from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.evaluation.bundle.frames import frames_of
from raybridge.evaluation.bundle.notes import licences, readme
from raybridge.evaluation.bundle.rows import rows_of
from raybridge.evaluation.bundle.tables import judged_on, tables_of
from raybridge.evaluation.provenance import commit
from raybridge.evaluation.trained import best_step, trial_of
from raybridge.models.hardening import Hardening
from raybridge.results import Results, TrialRun
from raybridge.results.bundle import (
    FACTS,
    LAYOUT,
    WEIGHTS,
    Rows,
    check_room,
    frame_files,
    records_of,
    table_file,
    write_bundle,
)
from raybridge.results.find import decodings
from raybridge.translators.weights import FILE, whole
from raybridge.trial import Trial


def export(run: TrialRun, path: Path, *, weights: bool = True, frames: bool = True) -> list[str]:
    """Write the bundle of a trial; what had to be left out of it, a sentence each. Models are read by their tokenizers only.

    weights: whether the translator's go with it; frames: whether the texts around the questions do, exemplars and all.
    """
    check_room(path)
    if run.config.get("bundle"):
        raise ValueError(f"{run.path.name} was imported from a bundle: pass that on")
    trial, step = trial_of(run), best_step(run)
    if trial.contents is None:
        raise ValueError(
            f"{run.path.name} is of an earlier identity: what its models, prompts and problems were is not on record, and "
            "nobody could check a bundle of it; run its sweep again"
        )
    results = Results(run.root)
    rows, left_out = rows_of(run, results)
    judges = {place.evaluator: judge_of(trial, place.evaluator) for place in rows}
    hardened = [one for one in _decodings(results) if any(parse(label).hardening == one.label for label in _labels(rows))]
    files = records_of(run)
    if weights:
        files[WEIGHTS] = whole(run.checkpoint_path(step) / FILE).read_bytes()
    files |= {place.file: table_file(samples) for place, samples in rows.items()}
    around, told = _frames(trial, judges, hardened, rows)
    golds = _golds(rows, judges, step)
    files |= (around if frames else {}) | tables_of(rows, best=step, title=title_of(run.path.name, step), golds=golds)
    wrote = commit()["id"] or "unknown"
    facts = {
        "layout": LAYOUT,
        "commit": wrote,
        "numpy": np.__version__,
        "step": step,
        "golds": golds,
        "decodings": [resolve(one) for one in hardened],
        "frames": told,
    }
    files[FACTS] = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    title, models = title_of(run.path.name, step), [trial.source, trial.target]
    there = dict(weights=weights, frames=frames)
    files["README.md"] = readme(title=title, models=models, commit=wrote, **there, left_out=left_out).encode()
    files["LICENSES.md"] = licences(models=list(dict.fromkeys(models)), benchmarks=sorted(judges), frames=frames).encode()
    write_bundle(path, files)
    return left_out


def judge_of(trial: Trial, evaluator: str) -> Evaluator:
    """The benchmark of that name as the trial asks it, or as it stands in evaluators/."""
    return trial.evaluator if evaluator == trial.evaluator.name else load_evaluator(evaluator)


def title_of(name: str, step: int) -> str:
    """What is judged: a trial by its directory's name, at a step."""
    return f"{name} at step {step}"


def _labels(rows: Rows) -> set[str]:
    return {label for samples in rows.values() for label in samples["arm"].unique()}


def _decodings(results: Results) -> list[Hardening]:
    """The hardened decodings that evaluations asked for."""
    return [rebuild(told) for told in decodings(results)]


def _golds(rows: Rows, judges: Mapping[str, Evaluator], step: int) -> dict[str, int]:
    """How many different gold answers the problems have that the translator was judged on, by benchmark/split."""
    found = {}
    for place, samples in rows.items():
        if place.step == step:
            asked = set(judged_on(samples))
            problems = judges[place.evaluator].problems(place.split)  # type: ignore[arg-type]
            found[f"{place.evaluator}/{place.split}"] = len({one.gold for one in problems if one.id in asked})
    return found


def _frames(
    trial: Trial, judges: Mapping[str, Evaluator], hardened: list[Hardening], rows: Rows
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The files of the frames, and what is said of each."""
    files: dict[str, bytes] = {}
    told = []
    anchors = ["", *(one.anchor for one in hardened)]
    models = [trial.source, trial.target, *sorted({parse(label).at for label in _labels(rows)} - {""})]
    for name, judge in judges.items():
        for digest, one in frames_of(judge, models, anchors).items():
            texts = (one.before, one.after)
            files |= {file: text.encode() for file, text in zip(frame_files(name, digest), texts, strict=True)}
            told.append(one.told(name))
    return files, told
