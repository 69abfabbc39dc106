"""Arms that read a translator's soft tokens: in the question's place, beside its text, and packed into fewer bits."""

from __future__ import annotations

from dataclasses import dataclass

from raybridge.arms.arm import BLACK, BLUE, ORANGE, PURPLE, SKY, Arm, C, WithQuestion


@dataclass(frozen=True, kw_only=True)
class Bridged(Arm):
    """Soft tokens in the question's place and no other trace of it."""

    trained: bool = True
    against: str | None = "shuffled"

    def soft(self, written: C, *, seed: int) -> C | None:
        """The question's own."""
        return written


@dataclass(frozen=True, kw_only=True)
class OverTheWire(Bridged):
    """The same, packed into a wire format and unpacked again."""

    packed: bool = True

    def soft(self, written: C, *, seed: int) -> C | None:
        """The question's own as they arrive."""
        return written.through_wire(self.wire)


@dataclass(frozen=True, kw_only=True)
class BridgedWithText(WithQuestion):
    """Soft tokens beside the question as text: do they harm it, and do they add to it what another problem's would not?"""

    trained: bool = True
    against: str | None = "shuffled_with_text"

    def soft(self, written: C, *, seed: int) -> C | None:
        """The question's own."""
        return written


BRIDGED = Bridged(name="bridged", in_sweeps=("dev", "test"), look={"color": BLUE, "linestyle": "-", "marker": "o"}, order=30)
FP16 = OverTheWire(
    name="bridged_fp16", wire="fp16", look={"color": ORANGE, "linestyle": (0, (4, 1.5)), "marker": "s"}, order=41
)
INT8 = OverTheWire(name="bridged_int8", wire="int8", look={"color": PURPLE, "linestyle": ":", "marker": "D"}, order=42)
INT6 = OverTheWire(name="bridged_int6", wire="int6", look={"color": BLACK, "linestyle": (0, (7, 2)), "marker": "v"}, order=43)
INT4 = OverTheWire(name="bridged_int4", wire="int4", look={"color": SKY, "linestyle": (0, (1, 2)), "marker": "P"}, order=44)
WITH_TEXT = BridgedWithText(
    name="bridged_with_text", in_sweeps=("test",), look={"color": SKY, "linestyle": "-", "marker": "D"}, order=50
)
