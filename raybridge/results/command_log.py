"""The log of a command, beside the results that it works on: logs/<time>-<command>-<process>.log."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import typer
from rich.console import Console, ConsoleRenderable, RenderHook
from rich.control import Control
from rich.table import Table

from raybridge import __version__

WIDTH = 240  # columns of a table; text keeps its own lines


@dataclass
class CommandLog(RenderHook):
    """Every line that a command prints, with the time. It is written once the folder of results is there: a refusal makes none.

    root: the folder of results.
    """

    root: Path
    name: str
    _waiting: list[str] = field(default_factory=list)
    _alone: threading.RLock = field(default_factory=threading.RLock)

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        return self.root / "logs" / self.name

    def move(self, root: Path) -> None:
        """Stand beside other results, as soon as a command knows whose these are."""
        with self._alone:
            if root.resolve() != self.root.resolve():
                if self.path.exists():
                    self._waiting = [*self.path.read_text(encoding="utf8").splitlines(keepends=True), *self._waiting]
                    self.path.unlink()
                self.root = root

    def note(self, text: str) -> None:
        """Write lines that are not printed. On a disk that takes none they are lost, and the command goes on."""
        with self._alone:
            clock = time.strftime("%H:%M:%S")
            self._waiting += [f"{clock}  {line}".rstrip() + "\n" for line in text.splitlines()]
            if not self.root.is_dir():
                return
            with suppress(OSError):
                self.path.parent.mkdir(exist_ok=True)
                with self.path.open("a", encoding="utf8", errors="replace") as file:
                    file.writelines(self._waiting)
            self._waiting.clear()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Take down what is printed. What a live table does to the cursor is not text."""
        for one in renderables:
            if not isinstance(one, Control):
                self.note(_plain(one))
        return renderables


def _plain(renderable: ConsoleRenderable) -> str:
    drawn = Console(file=StringIO(), width=WIDTH, no_color=True, force_terminal=False, _environ={})
    drawn.print(renderable, soft_wrap=not isinstance(renderable, Table), highlight=False)
    assert isinstance(drawn.file, StringIO)
    return drawn.file.getvalue()


@contextmanager
def logged(root: Path, command: str, *consoles: Console) -> Iterator[CommandLog]:
    """A command with its log: what was typed, when, every line that it prints on these consoles, and how it ended."""
    log = CommandLog(root, f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{os.getpid()}.log")
    log.note(f"{shlex.join(sys.argv)}\nraybridge {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}")
    began = time.monotonic()
    for console in consoles:
        console.push_render_hook(log)
    how = "ended"
    try:
        yield log
    except typer.Exit as ended:
        if ended.__cause__ is not None:
            log.note("".join(traceback.format_exception(ended.__cause__)))
        how = f"ended with exit code {ended.exit_code}"
        raise
    except BaseException as error:
        log.note("".join(traceback.format_exception(error)))
        how = f"ended by {type(error).__name__}"
        raise
    finally:
        for console in consoles:
            console.pop_render_hook()
        log.note(f"{how} after {time.monotonic() - began:.1f} s")
