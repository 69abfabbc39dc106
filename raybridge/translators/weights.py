"""Weights on disk and in memory: copied out of a module, read from a checkpoint, loaded into a module that they must fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

FILE = "translator.safetensors"  # in a checkpoint's folder


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """The module's weights as they are now, on the CPU: `state_dict()` alone would go on changing with training."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}


def digest_of(module: nn.Module) -> str:
    """SHA-256 of the module's weights: equal where every bit is."""
    told = hashlib.sha256()
    for name, tensor in sorted(copy_of(module).items()):
        told.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def read_weights(folder: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The translator's weights."""
    try:
        return load_file(folder / FILE, device=str(device))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"checkpoint {folder} cannot be read: {error}") from error


def load_weights(module: nn.Module, weights: dict[str, Tensor], *, where: str) -> None:
    """Load weights that must fit exactly; says which do not."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != given:
        name = min(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise ValueError(
            f"checkpoint {where} does not fit this translator: {name} is {given.get(name, 'absent')} in the checkpoint and "
            f"{wanted.get(name, 'absent')} in the translator"
        )
    module.load_state_dict(weights)
