"""Sentences for people: what was wrong, what is valid, the nearest match."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, value: object, valid: Iterable[object], where: str = "") -> ValueError:
    """A ValueError that names the value, what would be valid, and the nearest match if there is one."""
    names = [str(v) for v in valid]
    near = nearest(value, names)
    sentence = f"{where + ': ' if where else ''}unknown {kind} {str(value)!r}; valid: {', '.join(names) or 'none'}"
    return ValueError(sentence + (f"; did you mean {near!r}?" if near else ""))


def nearest(value: object, valid: Iterable[object]) -> str | None:
    """What of the valid was probably meant."""
    return next(iter(get_close_matches(str(value), map(str, valid), n=1, cutoff=0.5)), None)


def reason_of(error: BaseException) -> str:
    """The first line of what another library's error says; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
