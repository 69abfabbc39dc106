"""A trial's state as files without pickle: translator, optimizer, where it stands, and a checksum of each."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from raybridge.stopping import Decision
from raybridge.translators.weights import FILE, damaged, load_weights, read_tensors, read_weights, whole, with_checksums

OPTIMIZER, STATE = "optimizer.safetensors", "state.json"


def pack(weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint."""
    moments = {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return with_checksums({FILE: save(weights), OPTIMIZER: save(moments), STATE: json.dumps(state, indent=1).encode()})


def restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint into a module and its optimizer; returns its state. ValueError names the file that is damaged."""
    state = _state(folder / STATE)
    moments = _moments(folder / OPTIMIZER, optimizer)
    load_weights(module, read_weights(folder), where=str(folder))
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _moments(file: Path, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """What the optimizer remembers of each parameter, by its number."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in read_tensors(file).items():
        number, _, name = key.partition(".")
        if not number.isdecimal() or int(number) >= len(parameters):
            raise damaged(file, f"remembers {key!r}, and the translator has parameters 0 to {len(parameters) - 1}")
        wanted = parameters[int(number)].shape
        if value.ndim and value.shape != wanted:
            raise damaged(file, f"remembers {key!r} of shape {tuple(value.shape)}, and the parameter has {tuple(wanted)}")
        moments.setdefault(int(number), {})[name] = value
    return moments


def _state(file: Path) -> dict[str, Any]:
    """Where the trial stands: `step`, `seconds` of training, and the decision that `ended` it or None."""
    try:
        state = json.loads(whole(file).read_text(encoding="utf8"))
    except OSError as error:
        raise damaged(file, f"cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(file, f"is not JSON ({error})") from None
    if not isinstance(state, dict):
        raise damaged(file, f"must hold an object, not {type(state).__name__}")
    seconds, ended = state.get("seconds", 0.0), state.get("ended")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not math.isfinite(seconds):
        raise damaged(file, f"has {seconds!r} for seconds, which is no number")
    if not (ended is None or (isinstance(ended, dict) and ended.keys() == {field.name for field in fields(Decision)})):
        raise damaged(file, f"has {ended!r} for ended, which is no decision")
    return state
