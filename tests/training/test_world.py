"""What the workers of a trial agree on, by two processes and gloo: values, and errors of which one alone knows."""

from __future__ import annotations

import errno
import multiprocessing
import socket
import time

import pytest
import torch

from raybridge.world import World, agreed


class OddError(Exception):
    """An error that does not survive the way: its arguments are not what it is made of."""

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
        "each": lambda: world.each(lambda: world.rank * 10),
        "one refuses": lambda: world.each(lambda: refuse(ValueError("no checkpoint here")) if world.rank else "fine"),
    }


def _worker(rank: int, port: int, queue) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name, call in calls(World(rank=rank, size=2)).items():
        started = time.monotonic()
        try:
            said = call()
        except Exception as error:
            said = (type(error).__name__, str(error), agreed(error))
        queue.put((rank, name, said, time.monotonic() - started))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def heard() -> dict:
    """By call: what each of the two ranks got, and the longest that one waited."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_worker, args=(rank, port, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    told: dict = {}
    for _ in range(2 * len(calls(World()))):
        rank, name, said, seconds = queue.get(timeout=120)
        told.setdefault(name, {})[rank] = (said, seconds)
    for worker in workers:
        worker.join()
    return told


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("value", "of rank 0"),
        ("refused", ("ValueError", "the disk says no", True)),
        ("full", ("OSError", "[Errno 28] No space left on device: 'a.txt'", True)),
        ("odd", ("RuntimeError", "OddError: this and that", True)),
        ("each", [0, 10]),
        ("one refuses", ("ValueError", "no checkpoint here", True)),
    ],
)
def test_both_ranks_get_what_came_of_it_within_seconds(heard, name, said):
    assert [heard[name][rank][0] for rank in range(2)] == [said, said]
    assert max(seconds for _, seconds in heard[name].values()) < 20


def test_alone_a_value_and_an_error_are_what_they_are():
    world = World()
    assert world.only_first(lambda: 3) == 3
    assert world.each(lambda: 3) == [3]
    with pytest.raises(OddError) as caught:
        world.only_first(lambda: refuse(OddError("a", "b")))
    assert not agreed(caught.value)
