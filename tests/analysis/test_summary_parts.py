"""The summary of a sweep without a trial that was trained: what it says of none, and how its tables are cut."""

from __future__ import annotations

import pandas as pd

from raybridge.analysis.findings import asked_of
from raybridge.analysis.summary import parts, write_summary
from raybridge.data import draw
from raybridge.results import Results
from raybridge.scales import POCKET


def test_no_trial_complete_is_a_summary_that_says_so(trial, tmp_path):
    text = write_summary(
        {trial.fingerprint: trial.name}, sweep="s", question="?", results=Results(tmp_path), why={"tiny": "killed"}
    )
    assert "no result: tiny (killed)" in text
    assert "best on dev" not in text


def test_the_problems_that_were_asked_for_are_those_that_are_drawn_first():
    problems = POCKET.trial.evaluator.problems("test")
    drawn = [problem.id for problem in draw(problems, 8, seed=0)]
    evaluated = pd.Series([problem.id for problem in problems] * 2)
    assert asked_of(evaluated, 8) == drawn
    assert asked_of(evaluated, None) == [problem.id for problem in problems]


def test_a_name_longer_than_half_a_terminal_goes_on_below():
    name = "n" * 70
    rows = [["trial", "dev", "test"], [name, "0.500 at 100", "0.400 [0.300, 0.500]"]]
    drawn = [line for part in parts(rows, 60) for line in part]
    assert all(sum(map(len, line)) + 2 * (len(line) - 1) <= 60 for line in drawn)
    assert "".join(line[0] for line in drawn if set(line[0]) == {"n"}) == name * len(parts(rows, 60))
    assert parts(rows, None) == [rows]
