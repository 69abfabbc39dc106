"""Who is told how far the weights of a model are read: a terminal, where a command asks for it; nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging

Tell = Callable[[str, int, int], None]  # name of the model, tensors that are read, of how many

_told: list[Tell] = []


@contextmanager
def told_to(tell: Tell) -> Iterator[None]:
    """Models that are read in here are told of: at the start, at each tensor, and at the end."""
    _told.append(tell)
    try:
        yield
    finally:
        _told.remove(tell)


@contextmanager
def read_of(name: str) -> Iterator[None]:
    """A model is read in here by transformers, whose own bar stands back where somebody is told."""
    if not _told:
        yield
        return

    def hook(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        items = args[0] if args else options.get("iterable")
        return _counted(name, items) if isinstance(items, Iterable) else factory(*args, **options)

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


def _counted(name: str, items: Iterable[Any]) -> Iterator[Any]:
    found = list(items)
    for done, item in enumerate(found):
        _tell(name, done, len(found))
        yield item
    _tell(name, len(found), len(found))


def _tell(name: str, done: int, total: int) -> None:
    for tell in _told:
        tell(name, done, total)
