"""Rows by the kind of their arm: which a translator wrote for, which should fail, what each must beat, and in what order.

A label is an arm's name with how its decoding was hardened and which other target answered. Hardened arms and those of other
targets are of their plain arm's kind. An arm that this version of raybridge does not have is of none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import pandas as pd

from raybridge.arms import Arm, every, known, parse

Kind = Callable[[Arm], bool]


def there(arm: Arm) -> bool:
    """Every arm that there is."""
    return True


def trained(arm: Arm) -> bool:
    """An arm that needs a translator's weights."""
    return arm.trained


def control(arm: Arm) -> bool:
    """An arm that should fail."""
    return arm.control


def bridge(arm: Arm) -> bool:
    """An arm that reads what its translator wrote for the question, alone or beside its text."""
    return arm.trained and not arm.control and arm.borrows is None


def textless(arm: Arm) -> bool:
    """A bridge with no other trace of the question: it must beat soft tokens of another one."""
    return bridge(arm) and not arm.shows_question


def beside_text(arm: Arm) -> bool:
    """A bridge whose soft tokens stand beside the question's text: nothing is compressed."""
    return bridge(arm) and arm.shows_question


def of_sweeps(arm: Arm) -> bool:
    """An arm that every sweep evaluates on test."""
    return "test" in arm.in_sweeps


def listed(arm: Arm) -> bool:
    """An arm of the tables of all arms. What a wire format costs is a question of its own."""
    return not arm.packed


def costed(arm: Arm) -> bool:
    """A way to answer whose cost is told, and beside the bridge the control that costs as much. A ceiling is none."""
    return listed(arm) and not arm.crams and (not arm.control or (arm.trained and of_sweeps(arm)))


def are(labels: pd.Series, kind: Kind) -> pd.Series:
    """Of each row by its label whether its arm is of a kind."""
    found = {label: is_a(label, kind) for label in labels.unique()}
    return labels.map(found).astype(bool)


def is_a(label: str, kind: Kind) -> bool:
    """Whether the arm of a label is of a kind."""
    arm = known(label)
    return arm is not None and kind(arm)


def own_tokens(label: str) -> bool:
    """Whether the trial's own target answered: only then is an NLL in its tokens, from its floor, and compares with others."""
    arm = known(label)
    return not parse(label).at and (arm is None or arm.answered_by == "target")


def is_plain(label: str) -> bool:
    """Whether a label is an arm's bare name: plain decoding before the trial's own target."""
    return parse(label).arm == label


def ordered(labels: Iterable[str], kind: Kind = there) -> list[str]:
    """Each label of a kind once, in the order of tables and figures: hardened arms and those of other targets behind theirs."""
    place = {arm.name: number for number, arm in enumerate(every())}
    return sorted({label for label in labels if is_a(label, kind)}, key=lambda label: (place[parse(label).arm], label))


def in_place(label: str, name: str) -> str:
    """The label of another arm, decoded and answered as this one."""
    return str(replace(parse(label), arm=name))


def against(label: str) -> str | None:
    """The label of what an arm must beat, whether or not that is there."""
    arm = known(label)
    return None if arm is None or arm.against is None else in_place(label, arm.against)


def control_of(label: str, among: Collection[str]) -> str | None:
    """What an arm must beat; None where that is not there: never another control in silence."""
    wanted = against(label)
    return wanted if wanted in among else None
