"""Sample rows for a terminal."""

from __future__ import annotations

import pandas as pd

from raybridge.analysis.samples import counted, examples_of, shorten, table_of
from raybridge.statistics import wilson

SAMPLES = pd.DataFrame(
    [
        ("p1", "bridged", "#### 1", "1", 1.0),
        ("p2", "bridged", "#### 2", "2", 0.0),
        ("p3", "bridged", "no", None, 0.0),
        ("p1", "target", "#### 1", "1", 1.0),
    ],
    columns=["problem", "arm", "completion", "answer_strict", "score_strict"],
)


def test_a_row_for_each_arm_and_reading_begins_with_where_it_is_from():
    bridged, target = counted(SAMPLES, {"of": "run", "step": None})
    low, high = wilson(1, 3)
    assert bridged == {
        **{"of": "run", "step": None, "arm": "bridged", "reading": "strict", "n": 3, "valid": 2, "invalid": 1},
        **{"truncated": None, "correct": 1.0, "accuracy": 1 / 3, "low": low, "high": high},
    }
    assert list(bridged)[:3] == ["of", "step", "arm"]
    assert (target["n"], target["accuracy"]) == (1, 1.0)
    (row, _) = counted(SAMPLES.assign(truncated=[True, False, True, False]), {})
    assert row["truncated"] == 2


def test_examples_are_of_each_kind_and_no_more_than_asked_for():
    told = {(one["arm"], one["kind"]): one for one in examples_of(SAMPLES, 1)}
    assert told.keys() == {("bridged", "correct"), ("bridged", "wrong"), ("bridged", "invalid"), ("target", "correct")}
    assert told["bridged", "invalid"]["answer"] is None
    assert told["bridged", "wrong"]["completion"] == "#### 2"
    assert examples_of(SAMPLES, 0) == []


def test_a_table_leaves_out_what_nobody_recorded():
    table = table_of(counted(SAMPLES, {"of": "run", "step": None}), "[title]")
    headings = [column.header for column in table.columns]
    assert headings == ["of", "arm", "reading", "n", "valid", "invalid", "correct", "accuracy"]


def test_a_long_completion_loses_its_middle():
    assert shorten("a" * 300) == "a" * 300
    assert shorten("a" * 200 + "b" * 200) == "a" * 150 + " ... " + "b" * 150
