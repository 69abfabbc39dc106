"""Ceilings: K free vectors a problem, optimised through the frozen target (Kuratov et al. 2025, arXiv:2502.13063).

They say what K vectors can hold at all, and are no method: no reader of a question could write them. `crammed` is optimised
to let the target repeat the question and sees no gold. `crammed_with_answer` is optimised on the worked answer too: its input
holds the gold, so it bounds what soft tokens could reach and measures nothing else. `evaluation.cramming` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from raybridge.arms.arm import BLACK, GREY, Arm, C
from raybridge.arms.controls import Control, another_problems


@dataclass(frozen=True, kw_only=True)
class Crammed(Arm):
    """The problem's own vectors in the question's place."""

    of_k: bool = True
    against: str | None = "shuffled_crammed"

    def soft(self, written: C, *, seed: int) -> C | None:
        """The problem's own."""
        return written


def a_neighbours(written: C, seed: int) -> C:
    """What was crammed for a neighbour of like length: whichever trial asks, the same one, for the rows are of no trial."""
    return another_problems(written, 0)


CRAMMED = Crammed(
    name="crammed",
    crams=("question",),
    note="a ceiling and no method: vectors optimised problem by problem until the target can repeat the question",
    look={"color": BLACK, "linestyle": (0, (1, 2)), "marker": "*"},
    order=150,
)
WITH_ANSWER = Crammed(
    name="crammed_with_answer",
    version=2,  # 2: optimised behind the exemplars that it is judged behind
    crams=("question", "answer"),
    note="a ceiling and no method: its vectors are optimised on the gold answer of the very problem that they are judged on",
    look={"color": BLACK, "linestyle": ":", "marker": "P"},
    order=151,
)
SHUFFLED_CRAMMED = Control(
    name="shuffled_crammed",
    crams=("question",),
    of_k=True,
    of_block=True,
    take=a_neighbours,
    look={"color": GREY, "linestyle": (0, (1, 2)), "marker": "*"},
    order=915,
)
