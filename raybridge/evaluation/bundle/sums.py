"""What follows from the rows of a bundle alone: its tables, the numbers of result.json, the digests of its frames."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from raybridge.analysis.kinds import are, bridge
from raybridge.analysis.labels import name_of
from raybridge.evaluation.bundle.export import title_of
from raybridge.evaluation.bundle.findings import Findings
from raybridge.evaluation.bundle.frames import digest_of
from raybridge.evaluation.bundle.tables import evals_of, tables_of
from raybridge.results.bundle import PROVENANCE, RESULT, Bundle, Rows

CLOSE = 1e-9  # relative: numbers that were added up in another order
DRAWN = 0.05  # of an interval's width, by which its ends may differ where another numpy drew the problems again
MOVED = 0.0021  # the same in a table, which has three digits
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


def check_frames(bundle: Bundle, rows: Rows, found: Findings) -> None:
    """Whether the frames have the digests that rows tell, and every row a frame."""
    differences = []
    told = {*bundle.frames, *((one.get("evaluator"), one.get("template_hash")) for one in bundle.facts["frames"])}
    for evaluator, digest in bundle.frames:
        with found.held(f"frames/{evaluator}/{digest}"):
            if (made := digest_of(*bundle.frame(evaluator, digest))) != digest:
                differences.append(f"frames/{evaluator}/{digest}: its texts are those of {made}")
    for place, samples in rows.items():
        used = samples["template_hash"].dropna().unique() if "template_hash" in samples else ()
        lost = [digest for digest in used if (place.evaluator, digest) not in told]
        differences += [f"{place.file}: rows name a frame {digest}, which is not there" for digest in lost]
    without = len(told) - len(bundle.frames)
    if without > 0:
        found.unchecked.append(f"{without} frame{'s' if without > 1 else ''}: bundle.json names them without their texts")
    found.compared(f"{len(bundle.frames)} frames have their digests, and no row names another", differences)


def check_tables(bundle: Bundle, rows: Rows, found: Findings) -> None:
    """Whether the tables are those that follow from the rows."""
    with found.held("tables"):
        best = bundle.facts["step"]
        made = tables_of(rows, best=best, title=title_of(bundle.name, best), golds=bundle.facts["golds"])
        names = {name for name in bundle.sums if name.startswith("tables/")}
        differences = [f"{name} is missing" for name in sorted(made.keys() - names)]
        differences += [f"{name} follows from no rows" for name in sorted(names - made.keys())]
        numpy = bundle.facts.get("numpy")  # of who wrote the tables, who may have been another than who trained
        redrawn = numpy != np.__version__ and any(_resampled(samples) for samples in rows.values())
        for name in sorted(made.keys() & names):
            kept = bundle.place(name).read_bytes()
            if redrawn and kept != made[name] and _ends_moved(kept, made[name]):
                found.unchecked.append(_redrawn(name, numpy))
            else:
                differences += [f"{name}, {said}" for said in _first_difference(kept, made[name])]
        found.compared(f"{len(made)} tables are those of the rows", differences)


def _redrawn(name: str, numpy: str | None) -> str:
    """What is said of a file whose intervals another numpy resampled."""
    drew = f"numpy {numpy}" if numpy else "another numpy"
    return f"the last digits of {name}: {drew} resampled its intervals, and here is {np.__version__}"


def _resampled(samples: pd.DataFrame) -> bool:
    """Whether a reading scores otherwise than right or wrong, so that its intervals are resampled."""
    scores = [samples[name].dropna() for name in samples if str(name).startswith("score_")]
    return any(bool((one % 1 > 0).any()) for one in scores)


def _ends_moved(kept: bytes, made: bytes) -> bool:
    """Whether two tables are one but for numbers that are as near as the ends of an interval that is drawn again."""
    texts = [text.decode(errors="replace") for text in (kept, made)]
    if len({NUMBER.sub("#", text) for text in texts}) > 1:
        return False
    pairs = zip(*(map(float, NUMBER.findall(text)) for text in texts), strict=True)
    return all(math.isclose(was, now, rel_tol=CLOSE, abs_tol=MOVED) for was, now in pairs)


def check_result(bundle: Bundle, rows: Rows, found: Findings) -> None:
    """Whether result.json says what the rows do."""
    with found.held(RESULT):
        result, evals = bundle.record(RESULT), evals_of(rows)
        own = evals[evals["evaluator"] == name_of(bundle.trial["config"]["evaluator"])]
        best, told = bundle.facts["step"], result.get("best_step")
        differences = [] if told == best else [f"result.json: best_step is {told!r}, and bundle.json says {best}"]
        numpy = bundle.record(PROVENANCE).get("versions", {}).get("numpy")
        redrawn = numpy not in (None, np.__version__)
        if redrawn and (own["correct"] % 1 > 0).any():
            found.unchecked.append(_redrawn(RESULT, numpy))
        of_test = _of_test(result, own, best, redrawn=redrawn)
        differences += [f"result.json: {said}" for said in (*of_test, *_of_dev(result, own))]
        found.compared("peak, final and test scores of result.json are those of the rows", differences)


def _of_test(result: Mapping[str, Any], evals: pd.DataFrame, best: int, *, redrawn: bool) -> Iterator[str]:
    """Numbers of the best step on test that are not those of the rows. redrawn: intervals of other scores than counts are."""
    there = evals[(evals["split"] == "test") & (evals["step"] == best)]
    rows = {(row["arm"], row["reading"]): row for row in there.to_dict("records")}
    for (arm, reading, name), value in _leaves(result.get("test")):
        row = rows.get((arm, reading), {})
        if name not in row:
            yield f"{name} of {arm} ({reading}) on test follows from no rows"
        elif not _same(value, row[name]) and not (redrawn and _drawn_again(name, value, row)):
            yield f"{name} of {arm} ({reading}) on test is {value}, and the rows give {row[name]}"


def _drawn_again(name: str, told: Any, row: Mapping[Any, Any]) -> bool:
    """Whether a number is an end of a resampled interval, as near to that of the rows as another drawing would be."""
    if name not in ("low", "high") or float(row["correct"]).is_integer() or not isinstance(told, int | float):
        return False
    return abs(told - row[name]) <= DRAWN * (row["high"] - row["low"])


def _leaves(test: Any) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """((arm, reading, name), value) of each number of a result's test scores."""
    try:
        for arm, readings in (test or {}).items():
            for reading, numbers in readings.items():
                for name, value in numbers.items():
                    yield (arm, reading, name), value
    except AttributeError:
        raise ValueError("test must be objects: arms, in them readings, in them numbers") from None


def _of_dev(result: Mapping[str, Any], evals: pd.DataFrame) -> Iterator[str]:
    """Peak and final accuracy that no bridge had there."""
    dev = evals[(evals["split"] == "dev") & (evals["step"] > 0)]
    dev = dev[are(dev["arm"], bridge) & (dev["reading"] == dev["reading"].head(1).squeeze())] if len(dev) else dev
    for name, step in (("peak", result.get("peak_step")), ("final", dev["step"].max())):
        accuracies = dev.loc[dev["step"] == step, "accuracy"]
        if name in result and len(accuracies) and not any(_same(result[name], one) for one in accuracies):
            yield f"{name} is {result[name]}, and the rows of step {step} give {', '.join(map(str, dict.fromkeys(accuracies)))}"


def _same(told: Any, made: Any) -> bool:
    """Whether two numbers are one, or both are missing."""
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (told, made)]
    if any(missing):
        return all(missing)
    return isinstance(told, int | float) and math.isclose(told, made, rel_tol=CLOSE)


def _first_difference(kept: bytes, made: bytes) -> Iterator[str]:
    """Where a text first differs from what follows from the rows."""
    if kept == made:
        return
    was, now = (text.decode(errors="replace").splitlines() for text in (kept, made))
    shared = min(len(was), len(now))
    number = next((line for line in range(shared) if was[line] != now[line]), shared)
    one, other = (lines[number] if number < len(lines) else "" for lines in (was, now))
    yield f"line {number + 1}: {one!r}, and the rows give {other!r}"
