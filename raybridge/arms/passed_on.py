"""Arms that pass an answer on as text: the source's to the target, with the question and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.arms.arm import PURPLE, Arm, Texts

CASCADE = "{question}\n\nA proposed answer: {answer}"  # what `cascade` puts in the question's place


@dataclass(frozen=True, kw_only=True)
class PassedOn(Arm):
    """The source's answer in the question's place."""

    reads_text: bool = True
    passes_on: tuple[str, ...] = ("source",)

    def texts(self, given: Texts) -> Sequence[str]:
        """The answers."""
        return [answer.strip() for answer in given.answers["source"]]


@dataclass(frozen=True, kw_only=True)
class Cascade(PassedOn):
    """The question, and the source's answer as a proposal."""

    def texts(self, given: Texts) -> Sequence[str]:
        """Question and proposal."""
        pairs = zip(given.questions, super().texts(given), strict=True)
        return [CASCADE.format(question=question, answer=answer or "(none)") for question, answer in pairs]


CASCADED = Cascade(name="cascade", look={"color": PURPLE, "linestyle": "-.", "marker": "P"}, order=110)
AS_TEXT = PassedOn(name="source_answer_as_text", look={"color": PURPLE, "linestyle": ":", "marker": "p"}, order=120)
