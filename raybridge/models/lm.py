"""A frozen language model by its name: found, read from its files, and seen to be understood before it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from raybridge.models import bits, byte_lm, files, gguf, names, placement, probe
from raybridge.models.frozen import FrozenLM
from raybridge.models.memory import module_bytes

__all__ = ["FrozenLM", "load", "precision"]


def precision(device: torch.device) -> torch.dtype:
    """What models compute in on a device, unless told: bf16 on GPUs and fp32 elsewhere, where it is faster and exact."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load(
    name: str,
    *,
    device: torch.device | str,
    beside: Sequence[torch.device | str] = (),
    dtype: torch.dtype | None = None,
    met: Callable[[FrozenLM], object] | None = None,
) -> FrozenLM:
    """Load a model by hub id, directory, GGUF file or `pocket:` name; fp32 on CPU and bf16 on GPUs unless told.

    beside: further devices, over which its layers lie as well. `name:8bit` and `name:4bit` are the model with packed weights
    (see `bits`), `bytes` is a source that reads UTF-8 (see `byte_lm`). met: is told of it when its files are read and
    what it does has not been seen. ValueError where either is not understood.
    """
    device = torch.device(device)
    if name == byte_lm.NAME:
        return FrozenLM(name, byte_lm.model(dtype or precision(device)).to(device), byte_lm.tokenizer())
    names.check(name)
    # cuDNN plans each new shape of attention anew, milliseconds a call, and batches of text have a new shape at every step.
    torch.backends.cuda.enable_cudnn_sdp(False)
    where, (_, packed), dtype = names.place(name), bits.parted(name), dtype or precision(device)
    parts = {"": device}
    if beside:
        devices = [device, *map(torch.device, beside)]
        parts = placement.device_map(names.config_of(name), devices, partial(module_bytes, bits=packed))
    # A GPU reads its weights itself: a large model has no room on its way, and the way takes as long again.
    straight = (device.type == "cuda" or beside or packed != bits.WHOLE) and not gguf.is_named(where)
    tokenizer, model = files.read(name, where, dtype=dtype, bits=packed, parts=parts if straight else None)
    if packed == 8:
        bits.by_weight_alone(model)
    if beside:
        placement.put(model, parts)
    elif straight:
        placement.unhook(model)
    else:
        model.to(device)
    lm = FrozenLM(name, model, tokenizer)
    if met is not None:
        met(lm)
    return probe.seen(lm)
