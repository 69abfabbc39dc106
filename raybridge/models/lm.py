"""A frozen language model by its name: found, read from its files, and seen to be understood before it is used."""

from __future__ import annotations

import torch

from raybridge.models import byte_lm, files, names, probe
from raybridge.models.frozen import FrozenLM, in_chunks

__all__ = ["FrozenLM", "in_chunks", "load", "precision"]


def precision(device: torch.device) -> torch.dtype:
    """What models compute in on a device, unless told: bf16 on GPUs and fp32 elsewhere, where it is faster and exact."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load(name: str, *, device: torch.device | str, dtype: torch.dtype | None = None) -> FrozenLM:
    """Load a model by hub id, directory, GGUF file or `pocket:` name; fp32 on CPU and bf16 on GPUs unless told.

    `bytes` is a source that reads UTF-8 (see `byte_lm`). ValueError where its files or what it does are not understood.
    """
    device = torch.device(device)
    if name == byte_lm.NAME:
        return FrozenLM(name, byte_lm.model().to(device), byte_lm.tokenizer())
    names.check(name)
    # cuDNN plans each new shape of attention anew, milliseconds a call, and batches of text have a new shape at every step.
    torch.backends.cuda.enable_cudnn_sdp(False)
    tokenizer, model = files.read(name, names.place(name), dtype=dtype or precision(device))
    return probe.seen(FrozenLM(name, model.to(device), tokenizer))
