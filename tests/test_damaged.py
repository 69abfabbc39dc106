"""Every file of a finished sweep damaged in every way: each command ends in a sentence or with the numbers of the whole folder.

The suite draws from all cases; `RAYBRIDGE_EVERY_DAMAGE=1` runs each of the three thousand (an hour).
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from finished import Finished, Said, finish, without_ray
from pandas.api.types import is_numeric_dtype

from raybridge.results.files import CHECKSUM, parquet_of
from raybridge.results.schema import FILES

EVERY = bool(os.environ.get("RAYBRIDGE_EVERY_DAMAGE"))
DRAWN = 30  # cases that the suite runs
COMMANDS = ("dry run", "compare", "evaluate", "plots", "resume")
TOLD = ("dashboard", "runs", "resumes", "computed again", "evaluated again", "not complete", "lost", "without", "missing")
WRITTEN = ("logs", "figures", "tables", "partial", "sweeps", "states")  # what commands may write again, whatever is damaged


@pytest.fixture(scope="module")
def whole(tmp_path_factory, models):
    """The folder, what each command says of it, and what it draws."""
    with without_ray(models):
        made = finish(tmp_path_factory.mktemp("whole"))
        yield made, {command: made.say(command) for command in COMMANDS}, drawn(made.root)


def drawn(root: Path) -> dict[str, str]:
    """What is drawn, a line a row."""
    return {path.name: path.read_text() for path in sorted([*root.glob("figures/*.csv"), *root.glob("tables/*.csv")])}


def kind_of(relative: Path) -> str | None:
    """The kind of file that the schema has; None for what is no result."""
    return next((file.path for file in FILES if relative.match(file.path)), None)


def other(value: object) -> object:
    """A value of another type."""
    return [1] if isinstance(value, str | int | float | dict | None) else "x"


def of_bytes(content: bytes) -> Iterator[tuple[str, bytes | None]]:
    """What a disk does to any file."""
    draw = random.Random(len(content))
    yield "deleted", None
    yield "emptied", b""
    yield "cut", content[: len(content) // 2]
    yield "zeroed", bytes(len(content))
    for number in range(3):
        at = draw.randrange(len(content))
        yield f"flipped {number}", content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def of_table(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What another version, or another hand, makes of a table."""
    rows = pd.read_parquet(io.BytesIO(content))
    for name in rows:
        yield f"without {name}", parquet_of(rows.drop(columns=name))
        yield f"other type of {name}", parquet_of(rows.assign(**{str(name): "x" if is_numeric_dtype(rows[name]) else 1.5}))
    yield "newer", parquet_of(rows.assign(of_tomorrow=1.0))
    yield "other columns", parquet_of(pd.DataFrame({"a": [1]}))
    yield "no rows", parquet_of(rows.iloc[:0])


def of_record(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The same of a JSON object."""
    told = json.loads(content)
    for text in ("null", "[1]", '"x"', "1", "{}", content.decode().replace('"', '"\\ud800', 1)):
        yield f"only {text[:9]}", text.encode()
    for place, digit in enumerate(re.finditer(rb"\d", content)):
        if place in (3, 40):
            at, changed = digit.start(), b"1" if digit[0] != b"1" else b"2"
            yield f"digit {place}", content[:at] + changed + content[at + 1 :]
    told.pop(CHECKSUM, None)
    for name in (name for name in told if name != "contents"):  # without them it is of an earlier identity
        yield f"without {name}", _json({key: value for key, value in told.items() if key != name})
        yield f"other type of {name}", _json(told | {name: other(told[name])})
        yield f"null {name}", _json(told | {name: None})
    yield "newer", _json(told | {"of_tomorrow": {"a": [1]}})
    for name in ("translator", "evaluator", "losses"):
        if name in (config := told.get("config", {})):
            for value in (None, [1], "x", {"class": "raybridge.nowhere:Gone"}, {"class": 5}, {}):
                yield f"config.{name} {value}", _json(told | {"config": config | {name: value}})
    for name in told.get("contents", {}):
        yield f"contents.{name} null", _json(told | {"contents": told["contents"] | {name: None}})


def of_lines(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The same of a file of JSON lines: its first line is damaged."""
    first, _, rest = content.partition(b"\n")
    for how, line in of_record(first):
        yield how, line.replace(b"\n", b" ") + b"\n" + rest


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


MADE = {".parquet": of_table, ".json": of_record, ".jsonl": of_lines}


def kinds(root: Path) -> dict[str, Path]:
    """One file of every kind that is there, of the trial that is evaluated."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size):
        relative = path.relative_to(root)
        mine = "tiny_4tok" not in str(relative) and not relative.name.startswith("token_budget")
        kind = kind_of(relative) or ("checkpoint/" + path.name if "checkpoints" in path.parts else None)
        if kind and mine and "log" not in kind:
            found[kind] = relative
    return found


def cases(root: Path) -> list[tuple[str, str, bytes | None, str]]:
    """(file, how it is damaged, its bytes, the command)."""
    found = []
    for relative in kinds(root).values():
        content = (root / relative).read_bytes()
        made = [*of_bytes(content), *MADE.get(relative.suffix, lambda _: ())(content)]
        found += [(str(relative), how, damaged, command) for how, damaged in made for command in COMMANDS]
    return found


def judged(before: Said, now: Said, relative: Path, drawn_well: bool) -> str:
    """Empty where a command made the best of it; else what is wrong."""
    if now.error is not None or "Traceback" in now.text:
        return f"traceback: {now.error!r}"
    names = [relative.name, *(part for part in relative.parts[:-1] if "tok-" in part)]
    if any(name in now.words for name in names) and ("error" in now.text or "left out" in now.text or "fail" in now.text):
        return ""
    if (now.code, now.text) == (before.code, before.text):
        return "" if drawn_well else "drawn otherwise in silence"
    if now.code == 0 and numbers(now.text) <= numbers(before.text):
        return "" if drawn_well else "drawn otherwise in silence"  # what was not measured is left out
    return "" if any(word in now.text for word in TOLD) else "unnamed"


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d[\d.]*", text))


def fewer(now: dict[str, str], before: dict[str, str]) -> bool:
    """Whether no number is drawn that is not drawn of the whole folder."""
    return numbers(" ".join(now.values())) <= numbers(" ".join(before.values()))


def kept(root: Path, but: Path) -> dict[str, bytes]:
    """Files that no damage to another may touch."""
    files = (path for path in root.rglob("*") if path.is_file() and path.relative_to(root) != but)
    return {str(path.relative_to(root)): path.read_bytes() for path in files if path.relative_to(root).parts[0] not in WRITTEN}


def try_(whole, where: Path, case: tuple[str, str, bytes | None, str]) -> str:
    """What is wrong with how a command takes a damage; empty for nothing."""
    made, said, figures = whole
    name, _, content, command = case
    root, relative = where / "results", Path(name)
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(made.root, root, copy_function=os.link)  # every file is replaced as a whole, if at all
    (root / relative).unlink()
    if content is not None:
        (root / relative).write_bytes(content)
    before = kept(root, relative)
    here = Finished(root, made.file)
    now = here.say(command)
    told = Said(now.code, now.text.replace(str(root), str(made.root)), now.error)
    wrong = judged(said[command], told, relative, command != "plots" or fewer(drawn(root), figures))
    after = kept(root, relative)
    if command != "resume" and (lost := [name for name in before if after.get(name) != before[name]]):
        return wrong or f"lost or changed: {lost[:3]}"
    if lost := [name for name in before if name not in after]:
        return wrong or f"lost: {lost[:3]}"
    return f"{wrong}\n{now.code} {now.text[-700:]}" if wrong else ""


@pytest.mark.timeout(14_400 if EVERY else 600)
def test_no_damage_brings_a_traceback_a_wrong_number_or_a_loss(whole, tmp_path):
    made, *_ = whole
    among = cases(made.root)
    chosen = among if EVERY else random.Random(7).sample(among, DRAWN)
    found = {}
    for case in chosen:
        if wrong := try_(whole, tmp_path, case):
            found[" / ".join((case[0], case[1], case[3]))] = wrong
    assert found == {}
