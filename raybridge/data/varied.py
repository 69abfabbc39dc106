"""Questions again with other numbers: nobody wrote them and nobody knows their answers, but a model can be asked.

A number of a question is replaced by one of as many digits, wherever it stands in it by the same one, so that a question that
says it twice still means one thing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from raybridge.data.origin import data_folder
from raybridge.data.problems import Evaluator, Problem
from raybridge.data.texts import DIGITS, as_long, plain, said_in


def varied(problems: Sequence[Problem], times: int, *, own: Evaluator) -> list[Problem]:
    """Each problem so many times with other numbers; without those that are alike, or stand in the dev or test split.

    What grades a problem is left as it was, and of these says nothing.
    """
    judged = said_in(own, str(data_folder()))
    seen = {plain(problem.question) for problem in problems}
    return [one for one in _drawn(problems, times) if _new(one, judged, seen)]


def _drawn(problems: Sequence[Problem], times: int) -> Iterator[Problem]:
    for number in range(times):
        for problem in problems:
            question = with_other_numbers(problem.question, seed=f"{problem.id}/{number}")
            told = sha256(question.encode()).hexdigest()[:12]
            yield replace(problem, id=f"{problem.id}~{told}", question=question)


def _new(problem: Problem, judged: frozenset[str], seen: set[str]) -> bool:
    said = plain(problem.question)
    known = said in judged or said in seen
    seen.add(said)
    return not known


def with_other_numbers(text: str, *, seed: str) -> str:
    """A text whose numbers are drawn anew, each of as many digits as it had."""
    draw, drawn = random.Random(seed), dict[str, str]()

    def other(found: re.Match[str]) -> str:
        number = found[0]
        if number not in drawn:
            drawn[number] = as_long(number, draw)
        return drawn[number]

    return DIGITS.sub(other, text)
