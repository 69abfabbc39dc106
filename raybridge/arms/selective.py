"""K tokens of the question as plain text: those that the target could guess least, and as its control any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.arms.arm import GREEN, GREY, Arm, Texts


@dataclass(frozen=True, kw_only=True)
class Selective(Arm):
    """The tokens of a question with the most self-information before the target, in their order: Selective Context on tokens
    (Li et al. 2023, arXiv:2310.06201). Of equal ones the earlier.
    """

    reads_text: bool = True
    cut_to_k: bool = True
    of_k: bool = True

    def texts(self, given: Texts) -> Sequence[str]:
        """The K tokens of each question that surprise the target most."""
        asked = given.models
        return asked.kept([largest(nats, asked.soft_tokens) for nats in asked.surprise()])


@dataclass(frozen=True, kw_only=True)
class AnyTokens(Arm):
    """As many tokens of a question, drawn by the problem's id."""

    reads_text: bool = True
    cut_to_k: bool = True
    of_k: bool = True
    control: bool = True
    against: str | None = None

    def texts(self, given: Texts) -> Sequence[str]:
        """K tokens of each question, in their order."""
        asked = given.models
        drawn = zip(asked.ids, asked.lengths, strict=True)
        return asked.kept([largest(lots(name, length), asked.soft_tokens) for name, length in drawn])


def largest(values: Sequence[float], count: int) -> list[int]:
    """Places of the largest values, in their order."""
    return sorted(sorted(range(len(values)), key=lambda place: (-values[place], place))[:count])


def lots(name: str, count: int) -> list[float]:
    """A number for each of so many places, by a name: the same wherever and beside whatever it is drawn."""
    digests = [hashlib.sha256(f"{name}/{place}".encode()).digest() for place in range(count)]
    return [int.from_bytes(digest[:6]) / 2**48 for digest in digests]


SELECTIVE = Selective(
    name="selective_text", against="random_text", look={"color": GREEN, "linestyle": "--", "marker": "^"}, order=102
)
ANY_TOKENS = AnyTokens(name="random_text", look={"color": GREY, "linestyle": (0, (1, 2)), "marker": "^"}, order=945)
