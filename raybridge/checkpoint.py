"""A trial's state as files without pickle: translator, optimizer, and where it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

TRANSLATOR, OPTIMIZER, STATE = "translator.safetensors", "optimizer.safetensors", "state.json"


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """The module's weights as they are now, on the CPU: `state_dict()` alone would go on changing with training."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}


def pack(weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint."""
    moments = {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return {TRANSLATOR: save(weights), OPTIMIZER: save(moments), STATE: json.dumps(state, indent=1).encode()}


def read_weights(folder: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The translator's weights."""
    try:
        return load_file(folder / TRANSLATOR, device=str(device))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"checkpoint {folder} cannot be read: {error}") from error


def restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint into a module and its optimizer; returns its state."""
    load_weights(module, read_weights(folder), where=str(folder))
    plain = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(folder / OPTIMIZER).items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": plain["param_groups"]})
    return json.loads((folder / STATE).read_text(encoding="utf8"))


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
