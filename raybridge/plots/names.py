"""Long names in little room: broken after a word, shortened in the middle, and never so that two become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

Fits = Callable[[str], bool]

MARK = "..."  # stands for what is left out
ENDS = "_-/ :,"  # behind these a name may break
SHORTEST = 8  # characters that a name keeps in any room


def elided(name: str, limit: int) -> str:
    """A name of at most so many characters: of a longer one its beginning and its end."""
    if len(name) <= limit:
        return name
    kept = max(limit - len(MARK), 2)
    return f"{name[: kept - kept // 2]}{MARK}{name[len(name) - kept // 2 :]}"


def shortened(names: Sequence[str], limit: int) -> list[str]:
    """Each name in so many characters; names that would be alike by their ends keep what tells them apart."""
    whole = list(dict.fromkeys(names))
    short = {name: elided(name, limit) for name in whole}
    alike = Counter(short.values())
    for told in [one for one, count in alike.items() if count > 1]:
        group = [name for name in whole if short[name] == told]
        short |= dict(zip(group, _apart(group, limit), strict=True))
    return [short[name] for name in names]


def _apart(names: Sequence[str], limit: int) -> list[str]:
    """Names that begin and end alike by what lies between; numbered where even that is too long."""
    before = len(_common(names))
    room = min(map(len, names)) - before
    after = min(len(_common([name[::-1] for name in names])), room)
    found = []
    for name in names:
        core = name[before : len(name) - after]
        spare = max(limit - len(core) - 2 * len(MARK), 0)
        ahead, behind = spare - spare // 2, spare // 2
        head = name[:before] if before <= ahead + len(MARK) else name[:ahead] + MARK
        tail = name[len(name) - after :] if after <= behind + len(MARK) else MARK + name[len(name) - behind :]
        found.append(elided(head + core + tail, limit))
    count = Counter(found)
    if max(count.values()) == 1:
        return found
    marks = [f" ({number})" for number in range(1, len(names) + 1)]
    return [elided(name, max(limit - len(mark), 3)) + mark for name, mark in zip(names, marks, strict=True)]


def _common(names: Sequence[str]) -> str:
    """How all names begin."""
    first, last = min(names), max(names)  # by their letters: what lies between begins as they do
    alike = [one == other for one, other in zip(first, last, strict=False)]
    return first[: alike.index(False) if False in alike else len(alike)]


def broken(name: str, fits: Fits, lines: int) -> str | None:
    """A name in at most so many lines, each of which fits, broken behind words; None if there is no such way."""
    found: list[str] = []
    for line in name.split("\n"):
        rest = line
        while not fits(rest):
            ends = [at + 1 for at, character in enumerate(rest[:-1]) if character in ENDS and fits(rest[: at + 1].rstrip())]
            if not ends:
                return None
            found.append(rest[: ends[-1]].rstrip())
            rest = rest[ends[-1] :]
        found.append(rest)
    return "\n".join(found) if len(found) <= max(lines, name.count("\n") + 1) else None


def fitted(names: Sequence[str], fits: Sequence[Fits], lines: int) -> list[str]:
    """Names that are read together, each in lines that fit: whole if that can be, else in as many characters as can."""
    short, long = SHORTEST, max([SHORTEST, *map(len, names)])  # between these is how many characters fit

    def tried(limit: int) -> list[str | None]:
        return [broken(name, fit, lines) for name, fit in zip(shortened(names, limit), fits, strict=True)]

    found = tried(long)
    if None in found:
        found = [one or name for one, name in zip(tried(short), shortened(names, short), strict=True)]
    else:
        short = long
    while short < long - 1:
        middle = (short + long) // 2
        if None in (better := tried(middle)):
            long = middle
        else:
            short, found = middle, better
    return [one for one in found if one is not None]
