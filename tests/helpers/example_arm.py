"""The example arm where arms are found: as a file of raybridge/arms/."""

import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

from raybridge import HOUSE, arms


def found(folder: Path, monkeypatch) -> Iterator[arms.Arm]:
    """It is there until the generator goes on. folder: where its copy may lie."""
    folder.mkdir(exist_ok=True)
    copy(HOUSE / "examples/arm.py", folder / "last_sentence.py")
    monkeypatch.setattr(arms, "__path__", [*arms.__path__, str(folder)])
    arms._by_name.cache_clear()
    yield arms.find("last_sentence")
    arms._by_name.cache_clear()
    del sys.modules["raybridge.arms.last_sentence"]
