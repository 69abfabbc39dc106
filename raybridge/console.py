"""What the commands share: a sentence and an exit code where something is wrong, tables whole in any width, progress."""

from __future__ import annotations

import errno
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from raybridge.errors import unknown

HELP = {"help_option_names": ["-h", "--help"]}
USAGE, FAILURE = 2, 1
RESULTS = Annotated[Path, typer.Option("--results", help="where results are")]
DEBUG = Annotated[bool, typer.Option("--debug", help="show tracebacks")]
T = TypeVar("T")
OURS = "raybridge"
EVERY = 60.0  # seconds between two lines on an arm that is not done, in a log file


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
        console.print(f"[red]error[/red] {escape(printable(sentence(error)))}", soft_wrap=True, highlight=False)
        raise typer.Exit(USAGE if isinstance(error, ValueError) else FAILURE) from None
    except Exception as error:  # what nobody thought of: a defect, and a person cannot mend it by reading where
        if debug:
            raise
        what = escape(one_line(f"{type(error).__name__}: {error}"))
        console.print(
            f"[red]error[/red] a defect of raybridge, {what} ({_place(error)}); --debug shows the traceback",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(FAILURE) from error  # the command's log has it whole


def _place(error: Exception) -> str:
    """File and line where an error was raised, as far as they are ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{OURS}/" in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "nowhere"


def sentence(error: Exception) -> str:
    """What happened, for a person."""
    if isinstance(error, OSError):
        full = "the disk is full; what was complete is kept, and the same command goes on from there"
        what = full if error.errno == errno.ENOSPC else error.strerror or type(error).__name__
        return f"{what}: {error.filename}" if error.filename else what
    return str(error)


def printable(text: object) -> str:
    """Text that came from a file, for a terminal, a label or a page: lines of what can be seen, nothing that steers."""
    lines = str(text).splitlines()
    return "\n".join("".join(one if one.isprintable() else " " for one in line) for line in lines)


def one_line(text: object) -> str:
    """The same in one line."""
    return " ".join(printable(text).split())


def typed(module: str) -> str:
    """The command of a module as a person types it here: by the environment's own Python where `python` is another."""
    first, own = shutil.which("python"), Path(sys.executable)
    if first is not None and Path(first).absolute() == own.absolute():
        return f"python -m {module}"
    here = own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own
    return f"{shlex.quote(str(here))} -m {module}"


class OneUnnamed(TyperGroup):
    """Commands, of which one may be left unnamed: it takes one word, so a word behind that tells a mistyped command."""

    unnamed: ClassVar[str]
    console: ClassVar[Console]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the command where the first word is none."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            with guarded(self.console, debug=False):
                if len(_bare(args, self.commands[self.unnamed].params)) > 1 and not args[0].startswith("-"):
                    raise unknown("command", args[0], [*self.commands, f"one {self.unnamed} alone"])
            args = [self.unnamed, *args]
        return super().parse_args(ctx, args)


def _bare(args: Sequence[str], params: Sequence[Any]) -> list[str]:
    """The words that belong to no option, up to an option that is none of these."""
    flags = {name: getattr(one, "is_flag", True) for one in params for name in (*one.opts, *one.secondary_opts)}
    words, rest = [], iter(args)
    for word in rest:
        name, given, _ = word.partition("=")
        if not word.startswith("-"):
            words.append(word)
        elif name not in flags:
            break
        elif not given and not flags[name]:
            next(rest, None)
    return words


def print_table(console: Console, table: Table) -> None:
    """Print a table whole: where it is too wide, in parts that each repeat the first column, for no digit may be cut off."""
    for part in _parts(table, console):
        console.print(part)


def _parts(table: Table, console: Console) -> list[Table]:
    """The table, or tables of as many of its columns as fit."""
    free = console.options.update(max_width=10_000)
    if Measurement.get(console, free, table).maximum <= console.width or len(table.columns) < 2:
        return [table]
    chosen: list[list[int]] = [[]]
    for column in range(1, len(table.columns)):
        part = _of_columns(table, [0, *chosen[-1], column])
        if chosen[-1] and Measurement.get(console, free, part).maximum > console.width:
            chosen.append([])
        chosen[-1].append(column)
    parts = [_of_columns(table, [0, *columns]) for columns in chosen]
    for part in parts:
        if Measurement.get(console, free, part).maximum > console.width:  # a column and the first: their cells go on below
            for one in part.columns:
                one.no_wrap = False
    for part in parts[1:]:
        part.title = None
    return parts


def _of_columns(table: Table, columns: Sequence[int]) -> Table:
    part = Table(title=table.title, box=table.box, title_justify=table.title_justify, padding=table.padding)
    for column in columns:
        old = table.columns[column]
        part.add_column(old.header, justify=old.justify, no_wrap=True, overflow="fold")
    cells = [list(table.columns[column].cells) for column in columns]
    for row, values in zip(table.rows, zip(*cells, strict=True), strict=True):
        part.add_row(*values, style=row.style)
    return part


def tracked(console: Console, doing: str, items: Sequence[T]) -> Iterator[T]:
    """The items, with a bar and the time left while they are gone through; in a log file, a line a minute."""
    began = said = time.monotonic()
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=len(items))
        for done, item in enumerate(items):
            now = time.monotonic()
            if done and not console.is_terminal and now - said >= EVERY:
                said, left = now, (now - began) / done * (len(items) - done)
                console.print(f"{doing}: {done} of {len(items)}, about {left / 60:.0f} min left", highlight=False, markup=False)
            yield item
            progress.advance(task)


@dataclass(frozen=True)
class Told:
    """What is told while an evaluation goes on. arm: (its name, problems more that are done). model: (its name, tensors of its
    weights that are read, of how many).
    """

    arm: Callable[[str, int], None]
    model: Callable[[str, int, int], None]


@contextmanager
def progress_of(
    console: Console, arms: Sequence[str], count: int, *, quiet: bool, seconds: float | None = None
) -> Iterator[Told]:
    """A progress bar for each arm, and for a model while it is read; in a log file, lines.

    seconds: how long it may take, if that is known.
    """
    if quiet:
        yield Told(lambda arm, done: None, lambda model, done, of: None)
        return
    told = f"{len(arms)} arm{'s' if len(arms) > 1 else ''} on {count:,} problems"
    if seconds is not None:
        told += f", about {seconds / 60:.0f} min" if seconds >= 90 else f", about {seconds:.0f} s"
    console.print(f"{told}; what is kept from before is not computed", highlight=False, markup=False)
    if console.is_terminal:
        with _bars(console, arms, count) as tell:
            yield tell
    else:
        yield Told(_lines(console, arms, count), _lines_of_models(console))


def _lines(console: Console, arms: Sequence[str], count: int) -> Callable[[str, int], None]:
    """A line when an arm is done, and one a minute until then. The first word on an arm is of what was kept."""
    done = dict.fromkeys(arms, 0)
    kept: dict[str, int] = {}
    began: dict[str, float] = {}
    said = time.monotonic()

    def tell(arm: str, more: int) -> None:
        nonlocal said
        if arm not in done:
            return
        now = time.monotonic()
        done[arm] += more
        kept.setdefault(arm, more)
        began.setdefault(arm, now)
        if done[arm] < count and now - said < EVERY:
            return
        said = now
        fresh, spent = done[arm] - kept[arm], now - began[arm]
        rate = f", {fresh / spent:,.1f} problems/s" if fresh and spent else ""
        before = f", {kept[arm]} kept from before" if kept[arm] else ""
        console.print(f"{arm}: {done[arm]} of {count} problems{rate}{before}", highlight=False, markup=False)

    return tell


def _lines_of_models(console: Console) -> Callable[[str, int, int], None]:
    """A line a minute while a model is read."""
    began: dict[str, float] = {}
    said: dict[str, float] = {}

    def tell(model: str, done: int, of: int) -> None:
        now = time.monotonic()
        since = began.setdefault(model, now)
        if 0 < done < of and now - said.setdefault(model, since) >= EVERY:
            said[model], left = now, (now - since) / done * (of - done)
            console.print(f"reading {model}: {done} of {of} tensors, about {left:.0f} s left", highlight=False, markup=False)

    return tell


class _Rate(ProgressColumn):
    """Problems, or tensors, a second."""

    def render(self, task: Task) -> Text:
        """The rate, or a dash while it is not known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} {task.fields.get('unit', 'problems')}/s" if speed else "-")


@contextmanager
def _bars(console: Console, arms: Sequence[str], count: int) -> Iterator[Told]:
    """A progress bar for each arm, and for a model while it is read."""
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as progress:
        tasks = {arm: progress.add_task(arm, total=count, start=False) for arm in arms}

        def tell(arm: str, done: int) -> None:
            if arm in tasks:
                progress.start_task(tasks[arm])
                progress.advance(tasks[arm], done)

        reading: dict[str, TaskID] = {}

        def model(name: str, done: int, of: int) -> None:
            if name not in reading:
                reading[name] = progress.add_task(f"reading {name}", total=of, unit="tensors")
            progress.update(reading[name], completed=done)
            if done == of:
                progress.remove_task(reading.pop(name))

        yield Told(tell, model)
