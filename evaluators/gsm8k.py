"""GSM8K: grade-school word problems whose worked answers end in a line `#### n`.

One row: {"question": "Ana packs 3 crates of 12 pears. How many pears is that?",
          "answer": "She packs 3*12=<<3*12=36>>36 pears.\\n#### 36"}

Readings are the two filters of lm-evaluation-harness's task gsm8k, version 3.0 (lm_eval/tasks/gsm8k/gsm8k.yaml at
47f16bf): strict-match, which is also the official extractor (grade_school_math/dataset.py at 2909d34 of
openai/grade-school-math), and flexible-extract. Both read the completion as it stands: where a model runs on into a new
question, decoding ends it at `stop`. What they find that is no number (the dots of "in total...") is no answer here, and a
minus sign counts in every script. Answers are then compared as numbers, so that 18.0 and 18 are the same; the harness
and the official grader compare text, and would call them different.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from raybridge.data import (
    SPLITS,
    Problem,
    Split,
    check_split,
    draw,
    later,
    plain_number,
    read_numbers,
    rows,
    same_number,
    text,
    typed,
    with_minus,
)

GOLD = re.compile(r"^#### (-?[0-9.,]+)\s*\Z", re.MULTILINE)  # the last line of an official answer


@dataclass(frozen=True, kw_only=True)
class GSM8K:
    """GSM8K with `shots` exemplars and a dev split of `dev_size` problems, both drawn out of train."""

    VERSION: ClassVar[int] = 2  # 2: a reading is a number or none, and U+2212 a minus
    name: ClassVar[str] = "gsm8k"
    readings: ClassVar[tuple[str, ...]] = ("strict", "flexible")
    instruction: ClassVar[str] = "Solve the problem step by step. End with a line that holds #### and the answer as a number."
    before: ClassVar[str] = "Question: "
    after: ClassVar[str] = "\nAnswer:"
    stop: ClassVar[tuple[str, ...]] = ("Question:", "\nQ:")
    max_new_tokens: ClassVar[int] = 256

    thinking: bool = later(False)  # whether a chat template that can let the model think does

    shots: int = 8
    dev_size: int = 500

    def __post_init__(self) -> None:
        typed(self)
        if self.shots < 0 or self.dev_size < 0:
            raise ValueError(f"gsm8k: shots and dev_size must be at least 0, not {self.shots} and {self.dev_size}")

    def problems(self, split: Split) -> list[Problem]:
        """The official test split; dev and exemplars come out of the official train split, and train is what is left."""
        check_split(split, SPLITS, self.name)
        if split == "test":
            return _load("test")
        train, dev, exemplars = self._parts()
        held_out = {problem.id for problem in (*dev, *exemplars)}
        return dev if split == "dev" else [problem for problem in train if problem.id not in held_out]

    def exemplars(self) -> list[Problem]:
        """Drawn by seed 42 from what dev leaves of train, so that dev is the same whatever the number of shots."""
        return self._parts()[2] if self.shots else []

    def _parts(self) -> tuple[list[Problem], list[Problem], list[Problem]]:
        train = _load("train")
        if len(train) < self.dev_size + self.shots:
            raise ValueError(
                f"gsm8k: dev_size {self.dev_size} and shots {self.shots} do not fit in {len(train)} train problems"
            )
        dev = draw(train, self.dev_size, seed=0)
        taken = {problem.id for problem in dev}
        return train, dev, draw([problem for problem in train if problem.id not in taken], self.shots, seed=42)

    def read(self, completion: str) -> dict[str, str | None]:
        """Strict: what follows the first marker. Flexible: the last thing that looks like a number."""
        return read_numbers(completion)

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """Whether each reading's answer is the gold number."""
        return {reading: same_number(answer, problem.gold) for reading, answer in self.read(completion).items()}


def _load(part: str) -> list[Problem]:
    problems = []
    found = rows(f"gsm8k/{part}.jsonl", ("openai/gsm8k", "main", part), ("question", "answer"))
    for number, (where, row) in enumerate(found):
        rationale = text(row, "answer", where)
        written = GOLD.search(with_minus(rationale))
        gold = plain_number(written[1]) if written else None
        if gold is None:
            raise ValueError(f"{where}: the answer has no gold; its last line must be '#### ' and a number")
        question = text(row, "question", where)
        problems.append(Problem(id=f"gsm8k/{part}/{number}", question=question, gold=gold, rationale=rationale))
    return problems
