"""From many soft tokens to few within one training: a question is carried whole first, and then in less and less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raybridge.config import typed

ROUNDING = 1e-9  # of the shares of steps: a halving comes at its step, not at the next one


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """times: so many times K soft tokens at first, a power of two. share: of the steps, after which there are K.

    In between they are halved, at even distances.
    """

    VERSION: ClassVar[int] = 1

    times: int = 4
    share: float = 0.5

    def __post_init__(self) -> None:
        typed(self)
        if self.times < 2 or self.times & (self.times - 1):
            raise ValueError(f"narrowing: times must be 2, 4, 8 or another power of two, not {self.times}")
        if not 0 < self.share < 1:
            raise ValueError(f"narrowing: share must be above 0 and below 1, not {self.share}")

    def times_at(self, done: float) -> int:
        """How many times K soft tokens there are where so much of the training is done, a share."""
        halvings = self.times.bit_length() - 1
        return self.times >> min(int(done * halvings / self.share + ROUNDING), halvings)
