"""A trial's state as files without pickle: translator, optimizer, and where it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from raybridge.translators.weights import FILE, load_weights, read_weights

OPTIMIZER, STATE = "optimizer.safetensors", "state.json"


def pack(weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint."""
    moments = {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return {FILE: save(weights), OPTIMIZER: save(moments), STATE: json.dumps(state, indent=1).encode()}


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
