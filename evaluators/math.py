r"""MATH-500: competition mathematics, graded by symbolic equality.

One row: {"problem": "Simplify $\\frac{6}{8}$.", "solution": "Divide both by 2: $\\boxed{\\frac{3}{4}}$.",
          "answer": "\\frac{3}{4}"}

Graded by the math-verify library (0.9, huggingface/Math-Verify): strict reads the last \boxed{...} alone, flexible whatever
the library's default extraction finds. An answer that cannot be compared within 5 seconds counts as wrong.
Published as a test set (PRM800K's split of MATH): there is nothing here to train on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import ClassVar

from math_verify import parse, verify

from raybridge.data import Problem, Split, check_split, later, rows, text, with_minus

BOX = "\\boxed{"


@dataclass(frozen=True, kw_only=True)
class Math500:
    """MATH-500, zero-shot; it has a test split only."""

    VERSION: ClassVar[int] = 2  # 2: a minus sign counts in every script
    name: ClassVar[str] = "math"
    readings: ClassVar[tuple[str, ...]] = ("strict", "flexible")
    instruction: ClassVar[str] = "Solve the problem step by step. Put the final answer into \\boxed{}."
    before: ClassVar[str] = "Problem: "
    after: ClassVar[str] = "\nSolution:"
    stop: ClassVar[tuple[str, ...]] = ("\nProblem:",)
    max_new_tokens: ClassVar[int] = 512

    thinking: bool = later(False)  # whether a chat template that can let the model think does

    def problems(self, split: Split) -> list[Problem]:
        """The 500 problems."""
        check_split(split, ("test",), self.name, "it was published as a test set; train on another benchmark")
        found = rows("math500/test.jsonl", ("HuggingFaceH4/MATH-500", None, "test"), ("problem", "solution", "answer"))
        return [
            Problem(
                id=f"math/{number}",
                question=text(row, "problem", where),
                gold=text(row, "answer", where),
                rationale=text(row, "solution", where),
            )
            for number, (where, row) in enumerate(found)
        ]

    def exemplars(self) -> list[Problem]:
        """None: there is no train split to draw them from."""
        return []

    def read(self, completion: str) -> dict[str, str | None]:
        """Strict: what the last box holds. Flexible: what math-verify extracts, in its own spelling."""
        found = _parse(completion)
        return {"strict": _boxed(completion), "flexible": str(found[-1]) if found else None}

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """Whether each reading equals the gold answer as mathematics."""
        gold, boxed = _parse(f"${problem.gold}$"), _boxed(completion)
        strict = boxed is not None and _equal(gold, _parse(f"${boxed}$"))
        return {"strict": strict, "flexible": _equal(gold, _parse(completion))}


def _boxed(completion: str) -> str | None:
    """What stands between the braces of the last box; None if there is no box, or none that is closed and not empty."""
    _, box, rest = completion.rpartition(BOX)
    depth = 1 if box else 0
    for end, letter in enumerate(rest if box else ""):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[:end].strip() or None
    return None


def _seconds() -> int | None:
    """The library's time limit is an alarm, which only a process's main thread can set."""
    return 5 if threading.current_thread() is threading.main_thread() else None


def _parse(written: str) -> list:
    return parse(with_minus(written), parsing_timeout=_seconds())


def _equal(gold: list, answer: list) -> bool:
    assert gold, "a gold answer that math-verify does not read"
    return bool(answer) and verify(gold, answer, timeout_seconds=_seconds())
