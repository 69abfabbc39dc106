"""What captions say: how many, of what, with which intervals. A caption counts; the CSV beside it has the names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from raybridge.plots.names import elided
from raybridge.plots.style import words
from raybridge.statistics import ENOUGH_SEEDS

LINES, WIDTH = 5, 110  # of a caption: characters across two columns of a paper
NAME = 40  # characters of a name in a caption
NAMED = 3  # of a kind that are named; of more their number


def counted(names: Iterable[str], *, of: int, what: str = "configurations") -> str:
    """Some of several: "it" of one alone, the name of one of several, else how many: "18 of 21 configurations"."""
    some = list(dict.fromkeys(names))
    if len(some) == of == 1:
        return "it"
    return elided(some[0], NAME) if len(some) == 1 else f"{'all' if len(some) == of else f'{len(some)} of'} {of} {what}"


def without_control(names: Iterable[str], *, of: int) -> list[str]:
    """The sentence on configurations that nothing shows to carry the question; none where each has its control."""
    some = list(dict.fromkeys(names))
    if not some:
        return []
    return ["No control was run." if len(some) == of else f"No control was run for {counted(some, of=of)}."]


def rest(shown: int, many: int, *, by: str, what: str = "configurations") -> list[str]:
    """The sentence of a figure that has no room for all: which it shows, and how others are seen; none where it shows all."""
    return [f"Shown: {shown} of {many} {what}, {by}; --trials NAME draws others, the CSV has all."] if many > shown else []


def few(names: Sequence[str], what: str) -> str:
    """Names with commas, or of many their number."""
    return ", ".join(elided(name, NAME) for name in names) if len(names) <= NAMED else f"{len(names)} {what}"


def n_of(numbers: Iterable[Any]) -> str:
    """How many problems, for a caption: "n = 200" or "n = 200 to 1319"."""
    counts = sorted(int(number) for number in numbers)
    return f"n = {counts[0]}" if counts[0] == counts[-1] else f"n = {counts[0]} to {counts[-1]}"


def n_by_arm(rows: pd.DataFrame) -> str:
    """How many problems, for a caption; arms with another number than most are named: "n = 200 (mean: 32)"."""
    told = {_n_of_one(part): _n_of_one(part, str(evaluator)) for evaluator, part in rows.groupby("evaluator")}
    return next(iter(told)) if len(told) == 1 else few([*told.values()], f"benchmarks, {n_of(rows['n'])}")


def _n_of_one(rows: pd.DataFrame, *notes: str) -> str:
    usual = int(rows["n"].mode().max())
    others_ = rows[rows["n"] != usual]
    others = {int(part["n"].iloc[0]): [words(str(label)) for label in part["arm"].unique()] for _, part in others_.groupby("n")}
    told = [*notes, *(f"{few(labels, 'arms')}: {count}" for count, labels in others.items())]
    if len(others) > NAMED:
        told = [*notes, f"{others_['arm'].nunique()} arms: {min(others)} to {max(others)}"]
    return f"n = {usual}" + (f" ({'; '.join(told)})" if told else "")


def seeds_of(numbers: Iterable[Any]) -> str:
    """How many seeds, for a caption: "1 seed" or "1 to 3 seeds"."""
    counts = sorted(int(number) for number in numbers)
    many = "seed" if counts[-1] == 1 else "seeds"
    return f"{counts[0]} {many}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} {many}"


def intervals_of(numbers: Iterable[Any], of_one: str = "Wilson") -> str:
    """What bars show, for a caption, by how many seeds each configuration has. of_one: what intervals over problems are."""
    whole = [int(number) >= ENOUGH_SEEDS for number in numbers]
    two = "hierarchical bootstrap over seeds and problems"
    return f"95%, {two if all(whole) else f'{of_one} over the problems'}" + (
        f" ({two} from {ENOUGH_SEEDS} seeds on)" if any(whole) and not all(whole) else ""
    )
