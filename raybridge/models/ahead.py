"""What is read of a model before there is a device for its weights, by a process that waits for one."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from raybridge.models import byte_lm, files, names
from raybridge.models.identity import model_identity


def read(name: str) -> None:
    """What it is, its classes and its tokenizer: `lm.load` finds them in memory.

    Nothing is built of it: some architectures ask for devices then. One of the hub is left to who needs it, for the hub may say
    something else by then.
    """
    place = names.place(name)
    if name == byte_lm.NAME or not Path(place).exists():
        return
    model_identity(name)
    classes = type(names.config_of(name)).__module__.replace(".configuration_", ".modeling_")
    if importlib.util.find_spec(classes):
        importlib.import_module(classes)
    files.read_ahead(name, place)
