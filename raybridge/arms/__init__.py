"""Arms: every way to answer a problem and the controls that should fail, one file a family. No torch.

A new arm is a file here that holds an `Arm`; tables, figures, the report and the evaluation find it by looking into the
folder. `every()` hands out all of them in the order of tables and figures, `find` one by its name, and `parse` takes the label
apart under which rows are kept.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib import import_module

from raybridge.arms.arm import Arm
from raybridge.arms.label import Label, parse
from raybridge.errors import unknown

__all__ = ["Arm", "Label", "every", "find", "known", "parse"]


@cache
def _by_name() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for file in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{file.name}")
        for arm in vars(module).values():
            if not isinstance(arm, Arm):
                continue
            if found.setdefault(arm.name, arm) is not arm:
                raise ValueError(f"raybridge/arms/{file.name}.py: there is another arm named {arm.name!r}")
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def every() -> list[Arm]:
    """All arms, in the order of tables and figures."""
    return list(_by_name().values())


def find(name: str, among: Iterable[str] | None = None, kind: str = "arm") -> Arm:
    """An arm by its name, one of `among` if given; a name that is none is refused with its nearest."""
    valid = list(_by_name()) if among is None else list(among)
    if name not in valid:
        raise unknown(kind, name, valid)
    return _by_name()[name]


def known(label: str) -> Arm | None:
    """The arm of a label; None where this version of raybridge has no such arm."""
    return _by_name().get(parse(label).arm)
