"""The schema against what is on disk, and the page that is printed of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest

from raybridge import HOUSE
from raybridge.results.schema import COSTS, EVAL_COLUMNS, FILES, LENGTHS, MEANS, TEXTS, File

ON_DISK = json.loads((HOUSE / "tests/golden/columns.json").read_text(encoding="utf8"))
TEXT = (".md", ".log", ".safetensors", "SHA256SUMS")  # files without columns


def file_of(path: str) -> File | None:
    """The file of the schema that a file on disk is."""
    return next((file for file in FILES if PurePosixPath(path).match(file.path)), None)


def columns_of(file: File, content: list[str] | dict) -> list[str]:
    """Columns of a table; keys of JSON as deep as the schema goes."""
    return content if isinstance(content, list) else list(keys_of(file, content, ""))


def keys_of(file: File, content: dict, above: str):
    for key, inner in content.items():
        name = f"{above}{key}"
        inner = inner[0] if isinstance(inner, list) else inner
        known = file.column(name) is not None
        if isinstance(inner, dict):
            yield from (deep for deep in keys_of(file, inner, f"{name}.") if not known or file.column(deep) is not None)
        if known or not isinstance(inner, dict):
            yield name


HELD = {path: content for path, content in ON_DISK.items() if not path.endswith(TEXT)}


@pytest.mark.parametrize("path", HELD)
def test_every_column_on_disk_is_named(path):
    file = file_of(path)
    assert file is not None, f"no file of the schema is {path}"
    unnamed = [name for name in columns_of(file, HELD[path]) if file.column(name) is None]
    assert unnamed == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_every_named_column_occurs_or_is_said_to_be_there_only_sometimes(file):
    held = {path: columns_of(file, content) for path, content in HELD.items() if file_of(path) is file}
    assert held or file.only, f"{file.path} is not on disk"
    found = {name for columns in held.values() for name in columns}
    absent = [one.name for one in file.columns if not one.only and not any(fnmatchcase(name, one.name) for name in found)]
    assert absent == [] or not found  # the golden trial was opened with an empty provenance.json


def test_a_column_has_one_meaning_in_a_file():
    for file in FILES:
        names = [column.name for column in file.columns]
        assert len(set(names)) == len(names), file.path
        assert all(column.means for column in file.columns)


def test_the_lists_that_code_goes_by_are_columns_of_their_tables():
    evals, samples = (next(file for file in FILES if name in file.path) for name in ("evals", "step_*.parquet"))
    assert all(evals.column(name) for name in (*EVAL_COLUMNS, *MEANS))
    assert all(samples.column(name) for name in (*LENGTHS, *COSTS, *TEXTS))


def test_the_page_is_what_the_module_prints():
    done = subprocess.run(
        [sys.executable, "-m", "raybridge.results.schema"], capture_output=True, text=True, check=True, cwd=HOUSE
    )
    assert done.stdout == (HOUSE / "docs/schema.md").read_text(encoding="utf8")
    assert done.stderr == ""
    assert not re.search(r"[ \t]+$", done.stdout, re.MULTILINE)
