"""Rows of an evaluation by batch size, for every architecture that can be a target: the same NLL and completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import tiny_lms

from raybridge.arms import find
from raybridge.data import Problem, read_numbers, same_number
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Setting
from raybridge.models import byte_lm
from raybridge.models.frozen import FrozenLM

QUESTIONS = ("ab", "How many nuts?", "12+3")


@dataclass(frozen=True, kw_only=True)
class Short:
    """Three questions of unequal length in bytes."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "short"
    readings: ClassVar[tuple[str, ...]] = ("strict",)
    instruction: ClassVar[str] = ""
    before: ClassVar[str] = "Q:"
    after: ClassVar[str] = "\nA:"
    stop: ClassVar[tuple[str, ...]] = ()
    max_new_tokens: ClassVar[int] = 3

    def problems(self, split: str) -> list[Problem]:
        return [Problem(id=f"short/{split}/{i}", question=q, gold="1", rationale=f"#### {i}") for i, q in enumerate(QUESTIONS)]

    def exemplars(self) -> list[Problem]:
        return []

    def read(self, completion: str) -> dict[str, str | None]:
        return {"strict": read_numbers(completion)["strict"]}

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        return {"strict": same_number(self.read(completion)["strict"], problem.gold)}


@pytest.mark.parametrize("name", tiny_lms.TARGETS)
def test_rows_do_not_depend_on_the_batch(name):
    tiny = tiny_lms.tiny(name)
    models = Models("cpu")
    models._models[name] = FrozenLM(name, tiny.model, byte_lm.tokenizer())
    evaluator = Short()
    problems = tuple(evaluator.problems("test"))
    setting = Setting(source=name, target=name, evaluator=evaluator, split="test", problems=problems, soft_tokens=3)
    for arm in (find("target"), find("random")):
        one, two, all_ = (
            in_order([row for request in setting.requests([arm], size=size) for row in answer(request, models)], problems)
            for size in (1, 2, 16)
        )
        for other in (two, all_):
            assert one["completion"].tolist() == other["completion"].tolist()
            for column in ("nll", "reconstruction_nll"):
                assert one[column].tolist() == pytest.approx(other[column].tolist(), rel=1e-4, abs=1e-4)
