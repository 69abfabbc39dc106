"""How many rows a model decodes at a time: as many as their keys and values find room for beside one pass."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from raybridge.models.frozen import POSITIONS
from raybridge.models.kv_cache import position_bytes
from raybridge.models.parts import that_fit

T = TypeVar("T")

SHARE = 0.85  # of what is free: caches grow a layer at a time, which leaves gaps

log = logging.getLogger(__name__)


def rows_at_a_time(
    config: Any, lengths: Sequence[int], *, new: int, free: Sequence[tuple[int, float]], value_bytes: int
) -> list[list[int]]:
    """Row numbers in parts whose prompts of these lengths, with their new tokens, find room on every device.

    free: of each device the bytes that are free, and the share of the layers whose keys and values it holds.
    """
    room = min(beside_a_pass(config, bytes_, value_bytes) / share for bytes_, share in free if share)
    return that_fit(lengths, new=new, bytes_a_position=position_bytes(config, value_bytes), free=max(room, 0))


def slots_that_fit(config: Any, room: int, *, free: int, value_bytes: int) -> int:
    """How many rows of so many positions find room in the bytes that are free, beside a pass; one, if none does."""
    left = beside_a_pass(config, free, value_bytes)
    return max(int(left // (room * position_bytes(config, value_bytes) or 1)), 1)


def beside_a_pass(config: Any, free: int, value_bytes: int) -> float:
    """Of the bytes that are free those that keys and values may take; below zero where a pass alone is more."""
    return SHARE * free - POSITIONS * pass_bytes(config, value_bytes)


def halved(rows: Sequence[int], work: Callable[[Sequence[int]], Sequence[T]]) -> list[T]:
    """What work gives for each of the rows: for all at once, or, where memory ends, for one half after the other."""
    try:
        return list(work(rows))
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    log.warning("%d rows at once are more than the memory that is free: they are halved", len(rows))
    gc.collect()  # behind the handler: until then the error holds the tensors of its pass
    torch.cuda.empty_cache()
    half = len(rows) // 2
    return [*halved(rows[:half], work), *halved(rows[half:], work)]


def pass_bytes(config: Any, value_bytes: int) -> int:
    """What a position takes during a pass that keeps nothing: a layer's input, its attention and its widest product."""
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    experts = getattr(text, "num_experts_per_tok", None) or 1
    widest = max(inner) if isinstance(inner, list) else inner
    return value_bytes * (8 * text.hidden_size + 3 * experts * widest)
