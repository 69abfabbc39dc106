"""SVAMP: short arithmetic word problems, varied so that shallow patterns fail.

One row: {"ID": "made-1", "Body": "Ola has 9 pens and gives 4 away", "Question": "How many pens has she left?",
          "Equation": "( 9.0 - 4.0 )", "Answer": 5.0, "Type": "Subtraction"}

Answers are right within 0.01, as in the official grading (code/transformer_seq2seq/src/utils/evaluate.py at 04df0ae of
arkilpatel/SVAMP), which evaluates an equation; from text, strict reads the number behind the first `####` and flexible the
last number, as for GSM8K. The challenge set is a test set: the official models train on other data sets. (The hub's copy
is cut into a train and a test part, which nobody published; both together are the challenge set.)
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from raybridge.data import Problem, Split, check_split, check_unique, later, read_numbers, rows, same_number, text, with_minus


@dataclass(frozen=True, kw_only=True)
class Svamp:
    """The SVAMP challenge set, zero-shot; it has a test split only."""

    VERSION: ClassVar[int] = 2  # gsm8k's version 2
    name: ClassVar[str] = "svamp"
    readings: ClassVar[tuple[str, ...]] = ("strict", "flexible")
    instruction: ClassVar[str] = "Solve the problem step by step. End with a line that holds #### and the answer as a number."
    before: ClassVar[str] = "Question: "
    after: ClassVar[str] = "\nAnswer:"
    stop: ClassVar[tuple[str, ...]] = ("Question:", "\nQ:")
    max_new_tokens: ClassVar[int] = 256

    thinking: bool = later(False)  # whether a chat template that can let the model think does

    def problems(self, split: Split) -> list[Problem]:
        """The 1,000 problems."""
        check_split(split, ("test",), self.name, "the challenge set is a test set; train on another benchmark")
        needs = ("ID", "Body", "Question", "Equation", "Answer")
        found = rows("svamp/SVAMP.json", ("ChilleD/SVAMP", None, "train+test"), needs)
        return check_unique([_problem(where, row) for where, row in found])

    def exemplars(self) -> list[Problem]:
        """None: there is no train split to draw them from."""
        return []

    def read(self, completion: str) -> dict[str, str | None]:
        """Strict: what follows the first marker. Flexible: the last thing that looks like a number."""
        return read_numbers(completion)

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """Whether each reading's answer is within 0.01 of the gold."""
        found = self.read(completion).items()
        return {reading: same_number(answer, problem.gold, within=Decimal("0.01")) for reading, answer in found}


def _problem(where: str, row: dict[str, Any]) -> Problem:
    try:
        gold = f"{Decimal(with_minus(str(row['Answer']))).normalize():f}"
    except InvalidOperation:
        raise ValueError(f"{where}: the answer {row['Answer']!r} is no number") from None
    body, question = text(row, "Body", where).strip(), text(row, "Question", where).strip()
    stop = "" if body.endswith((".", ",", "?", "!")) else "."
    return Problem(
        id=f"svamp/{text(row, 'ID', where)}",
        question=f"{body}{stop} {question}",
        gold=gold,
        rationale=f"{text(row, 'Equation', where)} = {gold}\n#### {gold}",
    )
