"""What the commands share: one clear sentence and an exit code where something is wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

USAGE, FAILURE = 2, 1


@contextmanager
def guarded(console: Console, *, debug: bool) -> Iterator[None]:
    """Turn a refusal into a sentence: exit 2 for what a person can mend in the call, 1 for what failed on the way."""
    try:
        yield
    except typer.Exit:  # a RuntimeError by descent: an exit code that was chosen is no failure
        raise
    except (ValueError, RuntimeError, OSError) as error:
        if debug:
            raise
        console.print(f"[red]error[/red] {escape(sentence(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(USAGE if isinstance(error, ValueError) else FAILURE) from None


def sentence(error: Exception) -> str:
    """What happened, for a person."""
    if isinstance(error, OSError):
        full = "the disk is full; what was complete is kept, and the same command goes on from there"
        what = full if error.errno == errno.ENOSPC else error.strerror or type(error).__name__
        return f"{what}: {error.filename}" if error.filename else what
    return str(error)
