"""The tables of a bundle: what `evaluate` prints of its rows, as CSV and Markdown, and every evaluation as numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from raybridge.analysis.kinds import is_plain, ordered, trained
from raybridge.analysis.measures import readings_of, stacked, summarised
from raybridge.analysis.scorecard import Scorecard, scorecard, tables
from raybridge.results import EVAL_COLUMNS
from raybridge.results.bundle import PRINTED, Place

DIGITS = "%.10g"  # a last digit differs between two builds of the same library


def tables_of(rows: Mapping[Place, pd.DataFrame], *, best: int, title: str, golds: Mapping[str, int]) -> dict[str, bytes]:
    """The files of all tables. best: the step whose translator is judged. golds: different gold answers, by benchmark/split."""
    evals = evals_of(rows)
    files = {"tables/evals.csv": evals.to_csv(index=False, float_format=DIGITS, lineterminator="\n")}
    for evaluator, split in dict.fromkeys(place.benchmark for place in rows):
        tested = rows.get(Place(evaluator=evaluator, split=split, step=best))
        if tested is None:
            continue
        others = rows.get(Place(evaluator=evaluator, split=split, step=0), pd.DataFrame())
        there, folder = f"{evaluator}/{split}", f"tables/{evaluator}/{split}"
        card = card_of(
            stacked(others, tested), evaluator=evaluator, split=split, step=best, title=title, golds=golds.get(there)
        )
        drawn = tables(card)
        files |= {f"{folder}/{name}.csv": _csv(one) for name, one in zip(PRINTED[: len(drawn)], drawn, strict=True)}
        files[f"{folder}/tables.md"] = "\n".join([*map(_markdown, drawn), *(f"- {note}" for note in card.notes), ""])
    return {name: text.encode() for name, text in files.items()}


def evals_of(rows: Mapping[Place, pd.DataFrame]) -> pd.DataFrame:
    """Rows like those of evals.parquet of every evaluation, the arms without a translator at step 0."""
    told = [
        row
        for place, samples in sorted(rows.items())
        for row in summarised(samples, step=place.step, split=place.split, evaluator=place.evaluator)
    ]
    evals = pd.DataFrame(told)
    first = [name for name in EVAL_COLUMNS if name in evals]
    return evals[[*first, *sorted(name for name in map(str, evals) if name not in first)]]


def card_of(samples: pd.DataFrame, *, evaluator: str, split: str, step: int, title: str, golds: int | None) -> Scorecard:
    """The scorecard of the arms that answered every problem that the translator was judged on; the others are noted.

    Of plain decoding before the trial's own target, as `evaluate` prints it: more comparisons would change every p.
    """
    plain = samples[[is_plain(label) for label in samples["arm"]]]
    counts = plain.groupby("arm", sort=False)["problem"].agg(list)
    problems = judged_on(samples)
    asked = set(problems)
    if golds is None or golds > len(problems):
        raise ValueError(
            f"bundle.json tells {golds} different golds of {evaluator} ({split}), which has {len(problems)} problems"
        )
    labels = [*ordered(counts.index), *sorted(set(counts.index) - set(ordered(counts.index)))]
    whole = [label for label in labels if asked <= set(counts[label])]
    notes = [
        f"{label} answered {len(asked & set(counts[label]))} of the {len(asked)} problems and stands in no table"
        for label in labels
        if label not in whole
    ]
    others = sorted(set(samples["arm"]) - set(counts.index))
    notes += [
        f"{label} stands in evals.csv alone: these tables are of plain decoding before the trial's target" for label in others
    ]
    by_arm = {label: samples[samples["arm"] == label].set_index("problem") for label in whole}
    chosen = pd.concat([by_arm[label].loc[problems].reset_index() for label in whole], ignore_index=True)
    return scorecard(
        chosen,
        golds=golds,
        evaluator=evaluator,
        readings=readings_of(samples),
        split=split,
        step=step,
        title=f"{title} on {evaluator} ({split}, {len(problems)} problems)",
        notes=notes,
    )


def judged_on(samples: pd.DataFrame) -> list[str]:
    """The problems that the translator was judged on: those of the arm of it that answered most."""
    answered = samples.groupby("arm", sort=False)["problem"].agg(list)
    own = [label for label in ordered(answered.index, trained) if is_plain(label)]
    return max([answered[label] for label in own] or list(answered), key=len)


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Headings and lines of a table, as a reader sees them."""
    heads = [_seen(column.header) for column in table.columns]
    columns = [[_seen(cell) for cell in column.cells] for column in table.columns]
    return heads, [list(line) for line in zip(*columns, strict=True)]


def _seen(cell: Any) -> str:
    return Text.from_markup(str(cell)).plain


def _csv(table: Table) -> str:
    heads, lines = _cells(table)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([heads, *lines])
    return file.getvalue()


def _markdown(table: Table) -> str:
    heads, lines = _cells(table)
    rows = [heads, ["---"] * len(heads), *lines]
    drawn = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    return f"## {_seen(table.title)}\n\n{drawn}\n"
