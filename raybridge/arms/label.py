"""The name under which an arm's rows are kept: the arm, how its decoding was hardened, which other target answered."""

from __future__ import annotations

import re
from dataclasses import dataclass

LABEL = re.compile(r"(?P<arm>[^+@]+)(?P<hardening>(?:\+anchor\(.*\)|\+[^+@]*)*)(?:@(?P<at>.*))?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Label:
    """An arm's label taken apart. hardening: such as "+ban4", empty for plain decoding. at: another target that answered."""

    arm: str
    hardening: str = ""
    at: str = ""

    def __str__(self) -> str:
        return self.arm + self.hardening + (f"@{self.at}" if self.at else "")


def parse(label: str) -> Label:
    """A label taken apart. Nothing else reads `+` and `@`."""
    match = LABEL.fullmatch(label)
    if match is None:
        raise ValueError(f"{label!r} is no label of an arm: it begins with the arm's name")
    return Label(arm=match["arm"], hardening=match["hardening"], at=match["at"] or "")
