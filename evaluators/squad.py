"""SQuAD v1.1: a question on a paragraph, answered by a span of it.

One row: {"id": "made-1", "context": "The mill at Orrin was built in 1841 by two brothers.",
          "question": "When was the mill built?", "answers": ["1841", "in 1841"]}

Graded as the official evaluate-v1.1.py does (allenai/bi-att-flow squad/evaluate-v1.1.py at a315bc8 is a copy): exact match
and word F1 after normalisation, the best over all answers. What is graded is the completion's first line.
Test is the official dev set. The official test set is not public.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from raybridge.data import (
    SPLITS,
    Problem,
    Split,
    check_split,
    check_unique,
    draw,
    first_line,
    later,
    plain_words,
    rows,
    text,
    typed,
    word_f1,
)

ASK = "\n\nQuestion: "


@dataclass(frozen=True, kw_only=True)
class Squad:
    """SQuAD v1.1, zero-shot, with a dev split of `dev_size` problems out of train; train shares no paragraph with it."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "squad"
    readings: ClassVar[tuple[str, ...]] = ("em", "f1")
    instruction: ClassVar[str] = "Answer the question with a few words from the context, and nothing else."
    before: ClassVar[str] = "Context: "
    after: ClassVar[str] = "\nAnswer:"
    stop: ClassVar[tuple[str, ...]] = ("\n\n", "\nQuestion:", "\nContext:")
    max_new_tokens: ClassVar[int] = 48

    thinking: bool = later(False)  # whether a chat template that can let the model think does

    dev_size: int = 500

    def __post_init__(self) -> None:
        typed(self)
        if self.dev_size < 0:
            raise ValueError(f"squad: dev_size must be at least 0, not {self.dev_size}")

    def problems(self, split: Split) -> list[Problem]:
        """The official dev set as test; dev and train out of the official train set, or of what RAYBRIDGE_DATA has of it."""
        check_split(split, SPLITS, self.name)
        if split == "test":
            return _load("test", "squad/dev-v1.1.json", "validation")
        train = _load("train", "squad/train_subset.json", "train")
        if len(train) < self.dev_size:
            raise ValueError(f"squad: dev_size {self.dev_size} does not fit in {len(train)} train problems")
        dev = draw(train, self.dev_size, seed=0)
        held_out = {_context(problem) for problem in dev}
        return dev if split == "dev" else [problem for problem in train if _context(problem) not in held_out]

    def exemplars(self) -> list[Problem]:
        """None: paragraphs are long, and the instruction says what is asked."""
        return []

    def read(self, completion: str) -> dict[str, str | None]:
        """The first line, for both."""
        return dict.fromkeys(self.readings, first_line(completion))

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """Exact match and F1 against the best of the problem's answers."""
        answer = first_line(completion)
        if answer is None:
            return {"em": False, "f1": 0.0}
        found, golds = plain_words(answer), [plain_words(gold) for gold in (problem.gold, *problem.also)]
        return {"em": found in golds, "f1": max(word_f1(found, gold) for gold in golds)}


def _context(problem: Problem) -> str:
    return problem.question.rpartition(ASK)[0]


def _load(part: str, file: str, split: str) -> list[Problem]:
    problems = []
    found = rows(file, ("rajpurkar/squad", None, split), ("context", "question"), flat=_flat)
    for number, (where, row) in enumerate(found):
        answers = _answers(row)
        if not answers:
            raise ValueError(f"{where}: no gold answer; it needs 'answers' (or 'answer') with a text that is not empty")
        problems.append(
            Problem(
                id=f"squad/{part}/{row.get('id', number)}",
                question=text(row, "context", where).strip() + ASK + text(row, "question", where).strip(),
                gold=answers[0],
                rationale=answers[0],
                also=tuple(dict.fromkeys(answers[1:])),
            )
        )
    return check_unique(problems)


def _answers(row: dict[str, Any]) -> list[str]:
    """Answers as the hub has them (lists of texts), as the official file has them, or as one text."""
    found = row.get("answers", row.get("answer"))
    if isinstance(found, dict):
        found = found.get("text")
    elif isinstance(found, str):
        found = [found]
    texts = [answer.get("text") if isinstance(answer, dict) else answer for answer in found or []]
    return [answer for answer in texts if isinstance(answer, str) and answer.strip()]


def _flat(content: Any) -> Iterator[dict[str, Any]]:
    """Rows of the official nested file, or of a flat list."""
    if isinstance(content, list):
        yield from content
        return
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                yield {**asked, "context": paragraph["context"]}
