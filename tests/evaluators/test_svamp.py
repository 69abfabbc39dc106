"""SVAMP: its rows, and grading within the official tolerance."""

import json

import pytest
from graded import problem

from evaluators.svamp import Svamp

PENS = {
    "ID": "made-1",
    "Body": "Ola has 9 pens and gives 4 away",
    "Question": "How many now?",
    "Equation": "( 9.0 - 4.0 )",
    "Answer": 5.0,
}


def test_svamp_reads_its_rows(data) -> None:
    data("svamp/SVAMP.json", json.dumps([PENS, PENS | {"ID": "made-2", "Body": "Ola has 9 pens.", "Answer": "1200.0"}]))
    first, second = Svamp().problems("test")
    assert first.question == "Ola has 9 pens and gives 4 away. How many now?"
    assert (first.id, first.gold, first.rationale) == ("svamp/made-1", "5", "( 9.0 - 4.0 ) = 5\n#### 5")
    assert (second.question, second.gold) == ("Ola has 9 pens. How many now?", "1200")


@pytest.mark.parametrize(
    ("change", "message"), [({"Answer": "five"}, "row 0: the answer 'five' is no number"), ({"ID": 3}, "must be text")]
)
def test_svamp_bad_rows_are_named(data, change: dict, message: str) -> None:
    data("svamp/SVAMP.json", json.dumps([PENS | change]))
    with pytest.raises(ValueError, match=message):
        Svamp().problems("test")


@pytest.mark.parametrize(
    ("completion", "gold", "strict", "flexible"),
    [
        ("9-4=5\n#### 5", "5", True, True),
        ("#### 5.0", "5", True, True),
        ("It is 33.33", "33.333", False, True),  # within the official 0.01
        ("It is 33.35", "33.333", False, False),
        ("She has $1,200.", "1200", False, True),
        ("no idea", "5", False, False),
    ],
)
def test_svamp_edge_cases(completion: str, gold: str, strict: bool, flexible: bool) -> None:
    assert Svamp().grade(problem(gold), completion) == {"strict": strict, "flexible": flexible}
