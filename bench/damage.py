"""Damage one file of a folder of results at a time, and see what each command says of it.

    python -m bench.damage ray_results --sweep sweeps/compression.py

The folder must hold a complete sweep of at least three trials; a copy of it is damaged. Of every kind of file one is flipped in
a bit, cut in half, emptied or deleted, and six commands run on it: the plan of the sweep, a comparison, a comparison of two
other trials, the summary of an evaluation, an evaluation and a figure with a table. What a command prints is held against what
it prints of the whole folder. Prints every case that is not well, and the counts by kind of file:

    not needed   the same words and the same exit code
    named        other words, and the file or its folder is among them
    told         other words, which say what is gone or will be computed again
    unnamed      other words, and nothing says why
    blocked      other words of trials that were not damaged
    traceback    the command ended with an error that is not told in a sentence
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from typer.testing import CliRunner

import raybridge.evaluate
import raybridge.plots.__main__
import raybridge.sweep
from raybridge.results import Results

# Clocks, rates and temporary names.
CHANGING = re.compile(r"\d+(?:\.\d+)? ?(?:ms|s|min|tokens/s|problems/s|MB)\b|\d\d:\d\d:\d\d|[0-9a-f]{32}")
EVALUATED = ["--arms", "bridged_int8,target", "--bits", "8", "--problems", "8", "--timed", "0"]
APART = "compare others"
TOLD = ("runs", "resumes", "computed again", "evaluated again", "not complete", "lost", "without")


def flipped(content: bytes) -> bytes:
    """One bit in the middle is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": flipped,
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "deleted": lambda content: None,
}


def kinds(root: Path) -> Iterator[Path]:
    """One file of every kind, relative to the folder: of the kind is whose path differs in names and numbers alone."""
    seen = set()
    for path in sorted((path for path in root.rglob("*") if path.is_file()), reverse=True):  # the trial that is evaluated first
        relative = path.relative_to(root)
        kind = kind_of(relative)
        if not {"tune", "train", "lock", "logs"} & set(relative.parts) and path.stat().st_size and kind not in seen:
            seen.add(kind)
            yield relative


def kind_of(relative: Path) -> str:
    """What a file is called in the counts."""
    top, *inner, name = (re.sub(r"[0-9a-f]{16,}|\d{3,}", "N", re.sub(r"-[0-9a-f]{8,}", "", part)) for part in relative.parts)
    return (
        f"{top}/*{name[name.rfind('.') :]}" if top in ("baselines", "figures", "tables") else "/".join([top, *inner[1:], name])
    )


def commands(root: Path, sweep: Path) -> dict[str, tuple[object, list[str]]]:
    """What is run: an app and its arguments."""
    one, another, *_, other = [run.name for run in Results(root).trials()]
    on = ["--results", str(root)]
    drawn = ["plots/training_curves.py", "plots/main_results.py"]
    return {
        "plan": (raybridge.sweep.app, [str(sweep), "--scale", "pocket", "--dry-run", *on]),
        "compare": (raybridge.evaluate.app, ["compare", one, other, *on]),
        APART: (raybridge.evaluate.app, ["compare", one, another, *on]),
        "summarize": (raybridge.evaluate.app, ["summarize", other, *on]),
        "evaluate": (
            raybridge.evaluate.app,
            [other, *EVALUATED, *on],
        ),
        "plots": (raybridge.plots.__main__.app, [*drawn, "--format", "png", *on]),
    }


def said(app: object, arguments: list[str]) -> tuple[int, str, bool]:
    """Exit code, words without what changes from call to call, and whether an error came through."""
    result = CliRunner().invoke(app, arguments)  # type: ignore[arg-type]
    through = result.exception is not None and not isinstance(result.exception, SystemExit)
    return result.exit_code, CHANGING.sub("", result.output), through


def judged(name: str, whole: tuple[int, str, bool], now: tuple[int, str, bool], relative: Path) -> str:
    """What a command made of a damaged file."""
    code, text, through = now
    if through or "Traceback" in text:
        return "traceback"
    if (code, text) == whole[:2]:
        return "not needed"
    if name == APART and "trials" in relative.parts:
        return "blocked"
    words = "".join(text.split())  # a terminal breaks lines in paths
    names = {relative.name, *(part for part in relative.parts[:-1] if part not in ("trials", "samples", "checkpoints"))}
    if relative.name in words or any(name in words and "error" in text for name in names):
        return "named"
    return "told" if any(word in text for word in TOLD) else "unnamed"


def main() -> None:
    """Every kind, every damage, every command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--sweep", type=Path, required=True)
    parser.add_argument("--only", default="*", help="kinds of file, as the counts call them: a pattern")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-", dir=told.results.resolve().parent) as folder:
        counts: Counter[tuple[str, str]] = Counter()
        for kind, how in cases(told.results, told.sweep, Path(folder) / "results", only=told.only):
            if counts and kind not in {one for one, _ in counts}:
                print(f"{time.strftime('%H:%M:%S')}  {kind}", flush=True)
            counts[kind, how] += 1
    by_kind = sorted({kind for kind, _ in counts})
    columns = ("not needed", "named", "told", "unnamed", "blocked", "traceback")
    print(f"{'':58}" + "".join(f"{column:>12}" for column in columns))
    for kind in by_kind:
        print(f"{kind:58}" + "".join(f"{counts[kind, column]:12}" for column in columns))
    print(f"{len(by_kind)} kinds of file, {counts.total()} cases: {dict(Counter(how for _, how in counts.elements()))}")


def cases(results: Path, sweep: Path, root: Path, *, only: str = "*") -> Iterator[tuple[str, str]]:
    """(kind of file, what a command made of it), case by case."""
    shutil.copytree(results, root, copy_function=os.link)
    asked = commands(root, sweep)
    whole = {name: said(*call) for name, call in asked.items()}
    assert not any(through for _, _, through in whole.values()), f"the folder is not whole: {whole}"
    for relative in [one for one in kinds(results) if fnmatchcase(kind_of(one), only)]:
        content = (results / relative).read_bytes()
        for damage, change in DAMAGES.items():
            for name, call in asked.items():
                shutil.rmtree(root)
                shutil.copytree(results, root, copy_function=os.link)  # every file is replaced as a whole, if at all
                (root / relative).unlink()
                if (changed := change(content)) is not None:
                    (root / relative).write_bytes(changed)
                now = said(*call)
                how = judged(name, whole[name], now, relative)
                if how in ("unnamed", "blocked", "traceback"):
                    print(f"{how}: {relative} {damage}, {name} ended with {now[0]}:\n{now[1][-600:]}\n", flush=True)
                yield kind_of(relative), how


if __name__ == "__main__":
    main()
