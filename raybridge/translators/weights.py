"""Weights on disk and in memory: copied out of a module, read from a checkpoint, loaded into a module that they must fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FILE = "translator.safetensors"  # in a checkpoint's folder
CHECKSUMS = "SHA256SUMS"  # of each of its other files, as `sha256sum -c` reads it
DRAWN = ("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "trunc_normal_")


class Unfilled(TorchFunctionMode):
    """Within it no module draws the weights that it starts with: it gets others, and 240 million take seconds to draw."""

    drawing = frozenset(getattr(room, name) for room in (nn.init, Tensor) for name in DRAWN if hasattr(room, name))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = kwargs or {}
        if func in self.drawing:
            return told["tensor"] if "tensor" in told else args[0]
        return func(*args, **told)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """The module's weights as they are now, on the CPU: `state_dict()` alone would go on changing with training."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}


def with_checksums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a checkpoint and the one that says what each of them must be."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return {**files, CHECKSUMS: "".join(lines).encode()}


def damaged(file: Path, why: object) -> ValueError:
    """What a person does with a checkpoint of which a file is not what was written."""
    return ValueError(
        f"checkpoint {file.parent} is damaged: {file.name} {why}; restore it from a copy, or delete the folder of this "
        "checkpoint and launch its sweep again: the trial goes on from the checkpoint before it, or from the start"
    )


def whole(file: Path) -> Path:
    """A file of a checkpoint, once it is sure that it is what was written. Checkpoints of old have no checksums."""
    record = file.with_name(CHECKSUMS)
    if not file.exists():
        raise damaged(file, "is missing")
    if not record.exists():
        return file
    lines = [line.split(b"  ") for line in record.read_bytes().splitlines()]
    told = next((line[0] for line in lines if line[1:] == [file.name.encode()]), None)
    if told is None:
        raise damaged(record, f"says nothing of {file.name}")
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest().encode() != told:
            raise damaged(file, f"is not what was written (its SHA-256 is not that of {CHECKSUMS})")
    return file


def read_tensors(file: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a file of a checkpoint."""
    try:
        return load_file(whole(file), device=str(device))
    except (OSError, SafetensorError) as error:
        raise damaged(file, f"cannot be read: {error}") from error


def read_weights(folder: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The translator's weights."""
    return read_tensors(folder / FILE, device)


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
