"""What the documents for people say of the code is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from raybridge import HOUSE

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/architecture.md"]
FILE = re.compile(r"`((?:[\w.]+/)*[\w.]+\.(?:py|md)|(?:[\w.]+/)+)`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_names_are_there(document):
    """Within backticks: a file or folder of the clone, or of the package. `mine.py` is the reader's own."""
    text = (HOUSE / document).read_text(encoding="utf8")
    named = {name for name in FILE.findall(text) if Path(name).name not in ("mine.py", "ray_results")}
    missing = sorted(name for name in named if not (HOUSE / name).exists() and not (HOUSE / "raybridge" / name).exists())
    assert not missing
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert all(((HOUSE / document).parent / link).exists() for link in links)


def test_architecture_shows_the_floors_that_are_held():
    text = (HOUSE / "docs" / "architecture.md").read_text(encoding="utf8")
    drawn = text.partition("<!-- floors -->\n")[2].partition("\n\n")[0]
    floors = runpy.run_path(str(HOUSE / "tests" / "test_floors.py"))["FLOORS"]
    assert [tuple(line.split()) for line in drawn.splitlines()] == floors


def test_architecture_tells_of_every_room():
    text = (HOUSE / "docs" / "architecture.md").read_text(encoding="utf8")
    rooms = {path.parent.name for path in (HOUSE / "raybridge").glob("*/__init__.py")}
    assert {room for room in rooms if f"| `{room}/`" not in text} == set()


def test_change_of_a_fingerprint_is_told_where_the_architecture_says():
    assert "## What changes a fingerprint\n" in (HOUSE / "CONTRIBUTING.md").read_text(encoding="utf8")


def test_the_readme_activates_the_environment_before_it_types_python():
    """`make` makes .venv, and no `python` of a new machine is that one."""
    text = (HOUSE / "README.md").read_text(encoding="utf8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    needing = [at for at, line in enumerate(commands) if re.match(r"(\w+=\S+ )*(python|raybridge|ray|pip) ", line)]
    assert commands.index("source .venv/bin/activate") < min(needing)
