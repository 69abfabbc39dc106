"""Benchmarks that a test writes itself."""

import pytest


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A function that writes a file under RAYBRIDGE_DATA."""
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))

    def write(name: str, content: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    return write
