"""What is read of a model before there is a device for its weights, by a process that waits for one."""

from __future__ import annotations

from raybridge.models import byte_lm, files, names
from raybridge.models.identity import model_identity
from raybridge.models.memory import shape_bytes


def read(name: str) -> None:
    """What it is, its classes and its tokenizer: `lm.load` finds them in memory. ValueError for what is not there."""
    model_identity(name)
    if name == byte_lm.NAME:
        return
    shape_bytes(names.config_of(name))
    files.read_ahead(name, names.place(name))
