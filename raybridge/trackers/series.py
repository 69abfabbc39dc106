"""Series from what is on disk of a trial: `train/loss`, `dev/pocket/accuracy_strict/bridged`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd

from raybridge.arms import known, parse
from raybridge.results import TrialRun
from raybridge.trackers.tracker import Panel, Point

OF_READINGS = ("accuracy",)
OF_ARMS = ("nll", "reconstruction_nll", "bits_per_byte", "soft_tokens", "question_tokens")


def points(run: TrialRun) -> list[Point]:
    """Everything that is on disk, by step: logged steps as `train/...`, evaluations as <split>/<evaluator>/<measure>/<arm>."""
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for row in run.metrics().to_dict("records"):
        named = {f"train/{name}": value for name, value in row.items() if name != "step"}
        by_step[int(row["step"])] |= {name: value for name, value in named.items() if _measured(value)}
    for step, panel, arm, value in _evaluated(run.evals()):
        by_step[step][f"{panel}/{arm}"] = value
    return [Point(step=step, values=by_step[step]) for step in sorted(by_step)]


def panels(run: TrialRun) -> list[Panel]:
    """A panel for each measure of each arm that has a control: the two side by side."""
    curves: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for step, panel, arm, value in _evaluated(run.evals()):
        curves[panel][arm][step] = value
    return [
        Panel(title=title, lines={label: arms[label], control: arms[control]})
        for title, arms in curves.items()
        for label, control in _pairs(arms)
    ]


def news(every: list[Point], steps: Mapping[str, int]) -> list[Point]:
    """Of the points those that are new. steps: the last that is told, by series."""
    fresh = [
        Point(step=one.step, values={name: value for name, value in one.values.items() if one.step > steps.get(name, -1)})
        for one in every
    ]
    return [one for one in fresh if one.values]


def _evaluated(evals: pd.DataFrame) -> Iterator[tuple[int, str, str, float]]:
    """(step, <split>/<evaluator>/<measure>, arm, value) of every evaluation; what no reading changes once."""
    for row in evals.to_dict("records"):
        where, step, arm = f"{row['split']}/{row['evaluator']}", int(row["step"]), str(row["arm"])
        for name in OF_READINGS:
            if _measured(row.get(name)):
                yield step, f"{where}/{name}_{row['reading']}", arm, float(row[name])
        for name in OF_ARMS:
            if _measured(row.get(name)):
                yield step, f"{where}/{name}", arm, float(row[name])


def _pairs(arms: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(label, its control's label) of those that are both there."""
    for label in arms:
        arm = known(label)
        if arm is not None and arm.against is not None and (control := str(replace(parse(label), arm=arm.against))) in arms:
            yield label, control


def _measured(value: object) -> bool:
    """Whether it is a number: what was not measured is left out, never 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
