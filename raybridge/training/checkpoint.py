"""A trial's state as files without pickle: translator, optimizer, where it stands, and a checksum of each."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save
from torch import Tensor, nn

from raybridge.results.files import write_bytes
from raybridge.stopping import Decision
from raybridge.translators.optimizer import Optimizer
from raybridge.translators.weights import (
    CHECKSUMS,
    FILE,
    damaged,
    load_weights,
    read_tensors,
    read_weights,
    whole,
    with_checksums,
)

OPTIMIZER, STATE = "optimizer.safetensors", "state.json"

log = logging.getLogger(__name__)


def pack(weights: dict[str, Tensor], optimizer: Optimizer, state: dict[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint."""
    return files(weights, moments_of(optimizer), state)


def moments_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers now, on the CPU: training goes on and changes it."""
    return {
        f"{number}.{name}": torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def files(weights: dict[str, Tensor], moments: dict[str, Tensor] | None, state: dict[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint, from copies that nothing changes any more. moments: None where no training goes on from it."""
    remembered = {} if moments is None else {OPTIMIZER: save(moments)}
    return with_checksums({FILE: save(weights), **remembered, STATE: json.dumps(state, indent=1).encode()})


def forget_moments(folder: Path) -> None:
    """Delete what the optimizer remembers, two thirds of a checkpoint: its trial has ended and nothing goes on from it."""
    record = folder / CHECKSUMS
    if record.exists():  # first, so that killed in between the folder still is what it says
        lines = record.read_bytes().splitlines(keepends=True)
        write_bytes(record, b"".join(line for line in lines if line.split()[1:] != [OPTIMIZER.encode()]))
    (folder / OPTIMIZER).unlink(missing_ok=True)


class Writer:
    """Writes checkpoints beside training, in one thread and in order. What fails there is raised where it is waited for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Write one when the one before it is written: two never wait in memory."""
        self.wait()
        self._writing = self._thread.submit(write)

    def wait(self) -> None:
        """Until all that was begun is on disk; raises what came between."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Another error goes on; what failed here beside it is logged."""
        self._thread.shutdown()
        try:
            self.wait()
        except Exception:
            if kind is None:
                raise
            log.exception("a checkpoint could not be written either")


def restore(folder: Path, module: nn.Module, optimizer: Optimizer, *, steps: int | None = None) -> dict[str, Any]:
    """Put a checkpoint into a module and its optimizer; returns its state. ValueError names the file that is damaged.

    steps: of the whole training; behind the last of them, or where it has ended before, an optimizer remembers nothing.
    """
    state = _state(folder / STATE)
    over = bool(state.get("ended")) or state.get("step") == steps
    moments = {} if over else _moments(folder / OPTIMIZER, optimizer)
    load_weights(module, read_weights(folder), where=str(folder))
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _moments(file: Path, optimizer: Optimizer) -> dict[int, dict[str, Tensor]]:
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
