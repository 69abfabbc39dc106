"""How many rows a model decodes at a time: as many as their keys and values find room for beside one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from raybridge.models.frozen import POSITIONS
from raybridge.models.kv_cache import position_bytes
from raybridge.models.parts import that_fit

ON_CPU = 4 * 2**30  # bytes that decoding takes at the most where memory is shared with everything else
SHARE = 0.85  # of what is free: caches grow a layer at a time, which leaves gaps


def free_bytes(device: torch.device) -> int:
    """What a process can still take on a device, with what it holds there and does not use."""
    if device.type == "cpu":
        return ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def rows_at_a_time(config: Any, lengths: Sequence[int], *, new: int, free: int, value_bytes: int) -> list[list[int]]:
    """Row numbers in parts whose prompts of these lengths, with their new tokens, find room in the bytes that are free."""
    room = SHARE * free - POSITIONS * pass_bytes(config, value_bytes)
    return that_fit(lengths, new=new, bytes_a_position=position_bytes(config, value_bytes), free=max(room, 0))


def pass_bytes(config: Any, value_bytes: int) -> int:
    """What a position takes during a pass that keeps nothing: a layer's input, its attention and its widest product."""
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    experts = getattr(text, "num_experts_per_tok", None) or 1
    widest = max(inner) if isinstance(inner, list) else inner
    return value_bytes * (8 * text.hidden_size + 3 * experts * widest)
