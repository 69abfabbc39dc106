"""A trial and its bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundled import once
from quick import short_answers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trial and its bundle, which nobody writes into."""
    with short_answers():
        yield once(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(made):
    return made[0]


@pytest.fixture
def whole(made) -> Path:
    return made[1]


@pytest.fixture
def bundle(whole, tmp_path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))
