"""A second pass: the target checks its own answer and corrects it (Madaan et al. 2023, arXiv:2303.17651, with one round)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.arms.arm import BLACK, Arm, Texts

CHECK = "{question}\n\nA first answer: {answer}\n\nCheck the first answer and correct what is wrong in it."


@dataclass(frozen=True, kw_only=True)
class SelfRepair(Arm):
    """The question, the target's own answer to it, and what asks to check it."""

    reads_text: bool = True
    passes_on: tuple[str, ...] = ("target",)

    def texts(self, given: Texts) -> Sequence[str]:
        """Question, first answer, and the request to check it."""
        pairs = zip(given.questions, given.answers["target"], strict=True)
        return [CHECK.format(question=question, answer=answer.strip() or "(none)") for question, answer in pairs]


SELF_REPAIR = SelfRepair(
    name="self_repair", against="target", look={"color": BLACK, "linestyle": "--", "marker": "s"}, order=125
)
