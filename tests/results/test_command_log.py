"""The log of a command: what was typed, each line that was printed, how it ended, and none where nothing was made."""

from __future__ import annotations

import io
import re

import pytest
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from raybridge.console import guarded
from raybridge.results.command_log import logged


def lines(root) -> list[str]:
    (file,) = (root / "logs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-sweep-\d+\.log", file.name)
    read = file.read_text(encoding="utf8").splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d(  |$)", line) for line in read)
    return [line[10:] for line in read]


def test_a_log_has_what_was_typed_every_line_and_how_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["raybridge sweep", "my sweep.py"])
    console = Console(file=io.StringIO(), width=40, force_terminal=True)
    long = "a line that is longer than the terminal is wide, and stays one"
    with logged(tmp_path, "sweep", console) as log:
        console.print("[bold]plan[/bold]")
        console.print(long, soft_wrap=True)
        log.note("not printed")
        table = Table("trial", "step")
        table.add_row("tiny", "12")
        console.print(table)
    read = lines(tmp_path)
    assert read[0] == "'raybridge sweep' 'my sweep.py'"
    assert read[1].startswith("raybridge ")
    assert {"plan", long, "not printed"} <= set(read)
    assert any("tiny" in line and "12" in line for line in read)
    assert re.fullmatch(r"ended after \d+\.\d s", read[-1])
    assert "\x1b" not in "".join(read)
    assert "not printed" not in console.file.getvalue()
    console.print("later")
    assert "later" not in lines(tmp_path)


def test_a_refusal_makes_no_folder_of_results(tmp_path):
    console = Console(file=io.StringIO())
    with pytest.raises(typer.Exit), logged(tmp_path / "r", "sweep", console), guarded(console, debug=False):
        raise ValueError("no such sweep")
    assert not (tmp_path / "r").exists()


def test_what_was_said_before_there_was_a_folder_is_in_the_log_and_so_is_the_error(tmp_path):
    console = Console(file=io.StringIO())

    def command() -> None:
        with logged(tmp_path / "r", "sweep", console), guarded(console, debug=False):
            console.print("first")
            (tmp_path / "r").mkdir()
            raise RuntimeError("it broke")

    with pytest.raises(typer.Exit):
        command()
    read = lines(tmp_path / "r")
    assert read.index("first") < read.index("error it broke")
    assert read[-1].startswith("ended with exit code 1 after")


def test_a_disk_that_takes_no_log_costs_the_log_alone(tmp_path):
    console = Console(file=io.StringIO())
    (tmp_path / "logs").write_text("a file, where a folder should be", encoding="utf8")
    with logged(tmp_path, "sweep", console) as log:
        log.note("lost")
        console.print("said")
    assert console.file.getvalue() == "said\n"


def test_a_live_table_leaves_the_log_to_what_is_printed_beside_it(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with logged(tmp_path, "sweep", console), Live("table now", console=console, auto_refresh=False) as live:
        live.refresh()
        console.print("beside it")
    assert [line for line in lines(tmp_path)[2:-1] if line] == ["beside it"]
