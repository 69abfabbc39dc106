"""MATH-500: what stands in the box is the answer, and equal expressions are equal answers."""

import threading

import pytest
from graded import problem

from evaluators.math import Math500


@pytest.mark.parametrize(
    ("completion", "gold", "strict", "flexible"),
    [
        (r"So $\boxed{\frac{3}{4}}$.", r"\frac{3}{4}", True, True),
        (r"So \boxed{0.75}.", r"\frac34", True, True),
        (r"So the answer is $\frac{6}{8}$.", r"\frac{3}{4}", False, True),  # no box
        (r"\boxed{1} and then \boxed{2}", "2", True, False),  # the last box counts; the library takes both for a set
        (r"\boxed{(x+1)^2}", "x^2+2x+1", True, True),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", True, True),
        (r"\boxed{3", "3", False, False),  # never closed
        (r"\boxed{}", "3", False, False),
        (r"\boxed{4}", "3", False, False),
        ("I do not know", "3", False, False),
    ],
)
def test_math500_edge_cases(completion: str, gold: str, strict: bool, flexible: bool) -> None:
    assert Math500().grade(problem(gold), completion) == {"strict": strict, "flexible": flexible}


def test_math500_reads_what_stands_in_the_box() -> None:
    assert Math500().read(r"a \boxed{\frac{1}{2}} b")["strict"] == r"\frac{1}{2}"
    assert Math500().read("none")["strict"] is None


def test_math500_grades_off_the_main_thread() -> None:
    scores = []
    thread = threading.Thread(target=lambda: scores.append(Math500().grade(problem("1/2"), r"\boxed{\frac{1}{2}}")))
    thread.start()
    thread.join()
    assert scores == [{"strict": True, "flexible": True}]
