"""An arm: the target reads the question's last sentence alone. How much of a question lies in the sentence that asks?

Copied into raybridge/arms/, it is computed by every sweep and stands in its tables, figures and report.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.arms.arm import GREEN, Arm, Texts

BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, kw_only=True)
class LastSentence(Arm):
    """The question without what it tells before it asks."""

    reads_text: bool = True

    def texts(self, given: Texts) -> Sequence[str]:
        """The last sentence of each question."""
        return [BETWEEN_SENTENCES.split(question.strip())[-1] for question in given.questions]


LAST_SENTENCE = LastSentence(
    name="last_sentence",
    against="no_context",
    in_sweeps=("test",),
    look={"color": GREEN, "linestyle": "--", "marker": "<"},
    order=105,  # behind token_budget
)
