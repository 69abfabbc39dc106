"""Tables in a narrow terminal and progress in a log file."""

import io
import time

import pytest
import typer
from rich.console import Console
from rich.table import Table

from raybridge import console as console_module
from raybridge.console import guarded, print_table, progress_of, tracked, typed


def wide() -> Table:
    table = Table(title="costs")
    for column in ("arm", *(f"measure {number}" for number in range(9))):
        table.add_column(column)
    table.add_row("source_answer_as_text", *(f"{number},123,456 B" for number in range(9)))
    return table


@pytest.mark.parametrize("width", [40, 80, 111, 300])
def test_no_digit_of_a_table_is_cut_off_in_a_narrow_terminal(width):
    console = Console(file=io.StringIO(), width=width)
    print_table(console, wide())
    told = console.file.getvalue()
    assert all(f"{number},123,456 B" in told and f"measure {number}" in told for number in range(9))
    assert max(map(len, told.splitlines())) <= width
    assert told.count("costs") == 1


def test_each_part_of_a_table_says_which_arm_a_line_is_of():
    console = Console(file=io.StringIO(), width=80)
    print_table(console, wide())
    told = console.file.getvalue()
    assert told.count("source_answer_as_text") == told.count("arm ") > 1


def test_a_log_file_has_a_line_as_soon_as_an_arm_is_done():
    console = Console(file=io.StringIO(), width=80)
    with progress_of(console, ["source", "bridged"], 4, quiet=False) as told:
        told.arm("source", 1)
        told.arm("source", 1)
        assert console.file.getvalue().splitlines() == ["2 arms on 4 problems; what is kept from before is not computed"]
        told.arm("source", 2)
        assert "problems/s, 1 kept from before" in console.file.getvalue()
        told.arm("bridged", 4)
    assert [line.split(":")[0] for line in console.file.getvalue().splitlines()[1:]] == ["source", "bridged"]


@pytest.mark.parametrize(("seconds", "told"), [(None, "problems;"), (42.0, "problems, about 42 s;"), (600.0, "about 10 min;")])
def test_an_evaluation_says_what_it_will_do_before_it_starts(seconds, told):
    console = Console(file=io.StringIO(), width=200)
    with progress_of(console, ["source"], 1319, quiet=False, seconds=seconds):
        assert console.file.getvalue().startswith("1 arm on 1,319 problems")
        assert told in console.file.getvalue()


def test_a_hint_is_what_can_be_typed_here(tmp_path, monkeypatch):
    own = tmp_path / "my env" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(own))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert typed("raybridge.sweep") == f"'{own}' -m raybridge.sweep"
    monkeypatch.chdir(tmp_path)
    assert typed("raybridge.sweep") == "'my env/bin/python' -m raybridge.sweep"
    monkeypatch.setenv("PATH", str(own.parent))
    assert typed("raybridge.sweep") == "python -m raybridge.sweep"  # the environment is active


def test_json_is_alone_in_the_output():
    console = Console(file=io.StringIO(), width=80)
    with progress_of(console, ["source"], 4, quiet=True) as told:
        told.arm("source", 4)
    assert console.file.getvalue() == ""


def test_a_name_wider_than_the_terminal_goes_on_below(tmp_path):
    console = Console(file=io.StringIO(), width=40)
    table = Table("trial", "accuracy", "plan")
    table.add_row("X" * 55, "0.123 [0.100, 0.150]", "Y" * 30)
    print_table(console, table)
    told = console.file.getvalue()
    assert max(map(len, told.splitlines())) <= 40
    assert (told.count("Y"), told.count("X")) == (30, 2 * 55)


def test_what_takes_long_says_how_much_is_left(monkeypatch):
    log = Console(file=io.StringIO(), width=80)
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr("raybridge.console.time.monotonic", lambda: float(next(clock)))
    assert list(tracked(log, "drawing", ["a", "b", "c", "d"])) == ["a", "b", "c", "d"]
    assert log.file.getvalue().startswith("drawing: 1 of 4, about 4 min left")


@pytest.mark.parametrize("off", [True, False])
def test_no_color_is_no_colour(monkeypatch, off):
    monkeypatch.setenv("NO_COLOR", "1" if off else "")
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    with pytest.raises(typer.Exit), guarded(console, debug=False):
        raise ValueError("wrong")
    assert ("\x1b[31m" in console.file.getvalue()) != off


def test_a_model_that_takes_long_to_read_has_a_bar_or_lines(monkeypatch):
    monkeypatch.setattr(console_module, "EVERY", 0.0)
    log = Console(file=io.StringIO(), width=80)
    with progress_of(log, ["source"], 4, quiet=False) as told:
        for done in range(3):
            told.model("big", done, 2)
    assert "reading big: 1 of 2 tensors, about 0 s left" in log.file.getvalue()
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    with progress_of(terminal, ["source"], 4, quiet=False) as told:
        told.model("big", 1, 2)
        time.sleep(0.2)
        told.model("big", 2, 2)
    assert "reading big" in terminal.file.getvalue()
