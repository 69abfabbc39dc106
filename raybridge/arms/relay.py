"""A short message: the source rewrites the question in K tokens of the target, which reads them as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.arms.arm import PURPLE, Arm, Member, Texts

WORDS = 0.75  # of English text to a token
INSTRUCTION = (
    "Rewrite the question in at most {words} words. Keep every name and number that it takes to answer it, and what is asked. "
    "Do not answer it; write the short version alone."
)


@dataclass(frozen=True, kw_only=True)
class Relay(Arm):
    """The source's short version of the question, cut to K tokens of the target."""

    reads_text: bool = True
    cut_to_k: bool = True
    of_k: bool = True
    consults: tuple[Member, ...] = ("source", "target")

    def texts(self, given: Texts) -> Sequence[str]:
        """What the source writes."""
        return given.models.rewritten(INSTRUCTION.format(words=max(1, int(WORDS * given.models.soft_tokens))))


RELAY = Relay(name="text_relay", against="token_budget", look={"color": PURPLE, "linestyle": "--", "marker": "o"}, order=104)
