"""What one process at a time does: others wait until it is done, or has died."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file that nobody else holds meanwhile. It is there only while it is held; a kill leaves it, held by nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _stands(path, file.fileno()):  # who held it has deleted it: hold the one that others will find
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _stands(path: Path, opened: int) -> bool:
    """Whether a file that was opened is the one that stands there now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False
