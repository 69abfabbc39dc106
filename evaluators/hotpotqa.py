"""HotpotQA: questions that need two paragraphs, given among others.

One row: {"_id": "made-1", "question": "In which country was the founder of Orrin Mill born?", "answer": "Norway",
          "context": [["Orrin Mill", ["Orrin Mill was founded by Ada Lund."]], ["Ada Lund", ["Ada Lund was born in Norway."]]]}

Graded as hotpot_evaluate_v1.py at 4c0fa5e of hotpotqa/hotpot grades answers: exact match and word F1 after SQuAD's
normalisation, with F1 0 where one side is yes, no or "noanswer" and the other is not. What is graded is the completion's
first line; supporting facts are not asked for. Test is the official dev set, or the part of it that RAYBRIDGE_DATA has.
"""

from __future__ import annotations

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

FILES = {"distractor": "hotpotqa/gold_present_100.jsonl", "fullwiki": "hotpotqa/fullwiki_500.jsonl"}
WHOLE = ({"yes"}, {"no"}, {"noanswer"})  # answers that are right as a whole or not at all


@dataclass(frozen=True, kw_only=True)
class HotpotQA:
    """HotpotQA, zero-shot, with its paragraphs as context.

    setting: "distractor" (the gold paragraphs are among the ten) or "fullwiki" (ten retrieved ones; most questions cannot
    be answered from them). Train and dev are always of the distractor setting, and come from the hub or from
    hotpotqa/train.jsonl under RAYBRIDGE_DATA: 90,447 rows, some 600 MB in memory.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "hotpotqa"
    readings: ClassVar[tuple[str, ...]] = ("em", "f1")
    instruction: ClassVar[str] = "Answer the question from the context with a few words, and nothing else."
    before: ClassVar[str] = "Context: "
    after: ClassVar[str] = "\nAnswer:"
    stop: ClassVar[tuple[str, ...]] = ("\n\n", "\nQuestion:", "\nContext:")
    max_new_tokens: ClassVar[int] = 48

    thinking: bool = later(False)  # whether a chat template that can let the model think does

    setting: str = "distractor"
    dev_size: int = 500

    def __post_init__(self) -> None:
        typed(self)
        if self.dev_size < 0:
            raise ValueError(f"hotpotqa: dev_size must be at least 0, not {self.dev_size}")
        if self.setting not in FILES:
            raise ValueError(f"hotpotqa has no setting {self.setting!r}; valid: {', '.join(FILES)}")

    def problems(self, split: Split) -> list[Problem]:
        """The official dev set as test; dev out of the official train set, and train is what is left."""
        check_split(split, SPLITS, self.name)
        if split == "test":
            return _load(FILES[self.setting], self.setting, "validation")
        train = _load("hotpotqa/train.jsonl", "distractor", "train")
        if len(train) < self.dev_size:
            raise ValueError(f"hotpotqa: dev_size {self.dev_size} does not fit in {len(train)} train problems")
        dev = draw(train, self.dev_size, seed=0)
        held_out = {problem.id for problem in dev}
        return dev if split == "dev" else [problem for problem in train if problem.id not in held_out]

    def exemplars(self) -> list[Problem]:
        """None: ten paragraphs are long, and the instruction says what is asked."""
        return []

    def read(self, completion: str) -> dict[str, str | None]:
        """The first line, for both."""
        return dict.fromkeys(self.readings, first_line(completion))

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """Exact match and F1 of the answer."""
        answer = first_line(completion)
        if answer is None:
            return {"em": False, "f1": 0.0}
        found, gold = plain_words(answer), plain_words(problem.gold)
        whole = found != gold and any(len(words) == 1 and set(words) in WHOLE for words in (found, gold))
        return {"em": found == gold, "f1": 0.0 if whole else word_f1(found, gold)}


def _load(file: str, setting: str, split: str) -> list[Problem]:
    found = rows(file, ("hotpotqa/hotpot_qa", setting, split), ("question", "answer", "context"))
    return check_unique([_problem(where, row) for where, row in found])


def _problem(where: str, row: dict[str, Any]) -> Problem:
    """A row in the official form, or in the hub's."""
    context, row_id = row["context"], row.get("_id", row.get("id"))
    if row_id is None:
        raise ValueError(f"{where}: no field '_id' or 'id'")
    try:
        pairs = zip(context["title"], context["sentences"], strict=True) if isinstance(context, dict) else context
        paragraphs = [f"{title}: {''.join(sentences).strip()}" for title, sentences in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: a context is a list of titles with their lists of sentences ({error})") from None
    question = "\n".join([*paragraphs, "", f"Question: {text(row, 'question', where)}"]).strip()
    gold = text(row, "answer", where)
    return Problem(id=f"hotpotqa/{row_id}", question=question, gold=gold, rationale=gold)
