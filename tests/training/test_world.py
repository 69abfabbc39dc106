"""What the workers of a trial agree on, by two processes and gloo: values, and errors of which one alone knows."""

from __future__ import annotations

import errno
import time

import pytest
import torch
from two_workers import on_two_workers

from raybridge.world import World, agreed


class OddError(Exception):
    """An error that does not survive the way: its arguments are not what it is made of."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class OddValueError(ValueError):
    """The same of a value."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def refuse(error: Exception):
    raise error


def calls(world: World) -> dict:
    """What both ranks are asked to do, by name."""
    return {
        "value": lambda: world.only_first(lambda: f"of rank {world.rank}"),
        "refused": lambda: world.only_first(lambda: refuse(ValueError("the disk says no"))),
        "full": lambda: world.only_first(lambda: refuse(OSError(errno.ENOSPC, "No space left on device", "a.txt"))),
        "odd": lambda: world.only_first(lambda: refuse(OddError("this", "that"))),
        "odd value": lambda: world.only_first(lambda: refuse(OddValueError("this", "that"))),
        "each": lambda: world.each(lambda: world.rank * 10),
        "met by one": lambda: world.raise_any(ValueError("met here") if world.rank else None),
        "summed": lambda: world.sums([1.0, world.rank]),
        "gathered": lambda: world.gather(torch.full((1, 2), float(world.rank))).tolist(),
        "one refuses": lambda: world.each(lambda: refuse(ValueError("no checkpoint here")) if world.rank else "fine"),
    }


def answers(world: World) -> dict:
    """By call: what this rank got, and how long it waited."""
    told = {}
    for name, call in calls(world).items():
        started = time.monotonic()
        try:
            said = call()
        except Exception as error:
            said = (type(error).__name__, str(error), agreed(error))
        told[name] = said, time.monotonic() - started
    return told


@pytest.fixture(scope="module")
def heard() -> list[dict]:
    """What each of the two ranks got."""
    return on_two_workers(answers)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("value", "of rank 0"),
        ("refused", ("ValueError", "the disk says no", True)),
        ("full", ("OSError", "[Errno 28] No space left on device: 'a.txt'", True)),
        ("odd", ("RuntimeError", "OddError: this and that", True)),
        ("odd value", ("ValueError", "OddValueError: this and that", True)),
        ("each", [0, 10]),
        ("one refuses", ("ValueError", "no checkpoint here", True)),
        ("met by one", ("ValueError", "met here", True)),
        ("summed", [2.0, 1.0]),
        ("gathered", [[0.0, 0.0], [1.0, 1.0]]),
    ],
)
def test_both_ranks_get_what_came_of_it_within_seconds(heard, name, said):
    assert [told[name][0] for told in heard] == [said, said]
    assert max(told[name][1] for told in heard) < 20


def test_alone_a_value_and_an_error_are_what_they_are():
    world = World()
    assert world.only_first(lambda: 3) == 3
    assert world.each(lambda: 3) == [3]
    world.raise_any(None)
    with pytest.raises(OddError) as caught:
        world.only_first(lambda: refuse(OddError("a", "b")))
    assert not agreed(caught.value)
