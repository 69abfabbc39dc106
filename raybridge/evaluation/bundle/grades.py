"""Completions of a bundle read and graded again, by the benchmarks that are here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pandas as pd

from raybridge.data import Evaluator, Problem, Split, data_folder
from raybridge.evaluation.bundle.findings import Findings
from raybridge.evaluation.identity import problems_digest
from raybridge.results.bundle import Place, Rows
from raybridge.trial import Trial


def check_answers(rows: Rows, judges: Mapping[str, Evaluator], found: Findings) -> None:
    """Whether the answers are those that the readings find in the completions."""
    known = {place: samples for place, samples in rows.items() if place.evaluator in judges}
    differences = [said for place, samples in known.items() for said in _misread(place, samples, judges[place.evaluator])]
    if known:
        count = sum(len(samples) for samples in known.values())
        found.compared(f"the answers of {count:,} rows are those that the readings find in the completions", differences)


def check_scores(trial: Trial, rows: Rows, judges: Mapping[str, Evaluator], found: Findings) -> None:
    """Whether the scores are those of the completions, where the problems are here."""
    for name, split in dict.fromkeys(place.benchmark for place in rows if place.evaluator in judges):
        try:
            problems = problems_of(trial, judges[name], split)
        except (ValueError, OSError) as error:
            found.unchecked.append(f"scores on {name} ({split}): {error}")
            continue
        mine = {place: samples for place, samples in rows.items() if place.benchmark == (name, split)}
        differences = [said for place, samples in mine.items() for said in _misgraded(place, samples, judges[name], problems)]
        count = sum(len(samples) for samples in mine.values())
        found.compared(f"the scores of {count:,} rows on {name} ({split}) are those of the completions", differences)


def problems_of(trial: Trial, judge: Evaluator, split: str) -> dict[str, Problem]:
    """The problems of a split by id. ValueError where they are not here, or are not those of the trial."""
    part = cast(Split, split)
    problems = judge.problems(part)
    assert trial.contents is not None, "the trial of a bundle has contents"
    was = getattr(trial.contents.benchmark, part) if judge is trial.evaluator else ""
    if was and problems_digest(judge, part, str(data_folder())) != was:
        raise ValueError("the problems that are here are others")
    return {one.id: one for one in problems}


def _misread(place: Place, samples: pd.DataFrame, judge: Evaluator) -> Iterator[str]:
    for row in samples.to_dict("records"):
        read = judge.read(row["completion"])
        for reading in (one for one in judge.readings if f"answer_{one}" in row):
            told = row[f"answer_{reading}"]
            if (None if pd.isna(told) else told) != read[reading]:
                yield f"{_where(place, row)}: answer_{reading} is {told!r}, and its completion says {read[reading]!r}"


def _misgraded(place: Place, samples: pd.DataFrame, judge: Evaluator, problems: Mapping[str, Problem]) -> Iterator[str]:
    for row in samples.to_dict("records"):
        if row["problem"] not in problems:
            yield f"{_where(place, row)}: the benchmark has no such problem"
            continue
        graded = judge.grade(problems[row["problem"]], row["completion"])
        for reading in (one for one in judge.readings if f"score_{one}" in row):
            score, kept = float(graded[reading]), float(row[f"score_{reading}"])
            if score != kept:
                yield f"{_where(place, row)}: score_{reading} is {kept:g}, and its completion scores {score:g}"


def _where(place: Place, row: Mapping[Any, Any]) -> str:
    return f"{place.file}: {row['arm']} on {row['problem']}"
