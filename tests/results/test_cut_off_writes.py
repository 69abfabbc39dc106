"""Writing that is cut off by a full disk or a kill: what was there stays, and no part of a file is taken for the whole."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opened import ENDED, Killed, eval_row, everything, opened, sample_rows

from raybridge.results import Results, files


class FullDisk(io.FileIO):
    """A file on a disk that has room for `room` more bytes."""

    room = 0

    def write(self, data) -> int:
        part = bytes(data)[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        type(self).room -= len(part)
        return super().write(part)


@pytest.fixture
def full_disk(monkeypatch):
    """Call it with the bytes that are left: every file that is opened for writing then meets the full disk."""

    def fill(room: int) -> None:
        FullDisk.room = room
        usual = Path.open

        def open_(self, mode="r", *args, **kwargs):
            if "w" in mode or "a" in mode:
                file = FullDisk(self, mode)
                return file if kwargs.get("buffering") == 0 else io.BufferedWriter(file)
            return usual(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", open_)

    return fill


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_leaves_no_part_of_a_line(run, full_disk, room):
    run.append_metrics({"step": 1, "loss": 0.5})
    before = everything(run.path)
    full_disk(room)
    with pytest.raises(OSError, match="No space left"):
        run.append_metrics({"step": 2, "loss": 0.25, "long": "x" * 100})
    assert everything(run.path) == before


def writes(root: Path):
    """Every file that is replaced as a whole: (its folder's name, a call that writes it)."""
    results, run = Results(root), opened(root)
    return {
        "evals": lambda n: run.add_evals([eval_row(step=n)]),
        "samples": lambda n: run.write_samples("gsm8k", "dev", 250, sample_rows(seconds=float(n))),
        "metrics": lambda n: (run.append_metrics({"step": n}), run.truncate_metrics(n)),
        "result": lambda n: run.finish(ENDED | {"peak": n}),
        "checkpoint": lambda n: run.write_checkpoint(250, {"translator.safetensors": b"%d" % n, "state.json": b"{}"}),
        "baseline": lambda n: results.write_baseline("k", sample_rows(seconds=float(n))),
        "plan": lambda n: results.sweep("s").write_plan({"n": n}),
        "summary": lambda n: results.sweep("s").write_text("summary.log", f"{n}\n"),
    }


@pytest.mark.parametrize("kind", ["evals", "samples", "result", "checkpoint", "baseline", "plan", "summary"])
@pytest.mark.parametrize("room", [0, 1])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, full_disk, kind, room):
    write = writes(tmp_path)[kind]
    write(1)
    before = everything(tmp_path)
    full_disk(room)
    with pytest.raises(OSError, match="No space left"):
        write(2)
    assert everything(tmp_path) == before


def test_a_full_disk_while_a_trial_is_opened_leaves_no_trial(tmp_path, full_disk):
    full_disk(30)
    with pytest.raises(OSError, match="No space left"):
        opened(tmp_path)
    assert everything(tmp_path) == {}
    assert Results(tmp_path).trials() == []


def test_a_sweep_on_a_full_disk_can_still_be_asked_to_stop(tmp_path, monkeypatch):
    folder = Results(tmp_path).sweep("s")
    folder.write_plan({})
    folder.go_on()

    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", full)
        folder.stop()
    assert folder.stopped()
    folder.stop()  # by another process as well
    folder.go_on()
    assert not folder.stopped()


@pytest.mark.parametrize("kind", ["evals", "samples", "metrics", "result", "checkpoint", "baseline", "plan", "summary"])
def test_a_kill_just_before_the_rename_leaves_the_old_file_and_the_next_write_tidies_up(tmp_path, monkeypatch, kind):
    write = writes(tmp_path)[kind]
    write(1)
    before = everything(tmp_path)

    def killed(self, target):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            write(2 if kind != "metrics" else 1)
    left = everything(tmp_path)
    leftovers = [name for name in left if name not in before]
    assert len(leftovers) == 1
    assert all(files.LEFTOVER in name for name in leftovers)
    changed = {name for name in before if left[name] != before[name]}
    assert changed <= ({"trials/one-01234567/metrics.jsonl"} if kind == "metrics" else set())  # one more line, as told
    assert [run.checkpoints() for run in Results(tmp_path).trials()] == [[250] if kind == "checkpoint" else []]
    write(3)
    assert [name for name in everything(tmp_path) if files.LEFTOVER in name] == []


def test_killed_in_earnest_at_any_moment_every_file_can_be_read(tmp_path):
    """A process that rewrites everything for ever is killed; what it leaves is whole."""
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_cut_off_writes import writes\n"
        "calls = writes(Path(sys.argv[1])).values(); n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    [call(n) for call in calls]\n"
        "    n == 3 and print('going', flush=True)\n"
    )
    tests = Path(__file__).parent
    for delay in (0.0, 0.013, 0.037):
        command = [sys.executable, "-c", program, str(tmp_path), str(tests), str(tests.parent / "helpers")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "going\n"
            time.sleep(delay)
            process.kill()
        (run,) = Results(tmp_path).trials()
        assert run.evals()["n"].eq(200).all()
        assert run.result()["peak"] >= 2
        assert len(run.samples("gsm8k", "dev", 250)) == 1
        assert run.metrics()["step"].is_monotonic_increasing
        for step in run.checkpoints():
            assert {path.name for path in run.checkpoint_path(step).iterdir()} == {"translator.safetensors", "state.json"}
        assert Results(tmp_path).baseline("k")["problem"].tolist() == ["p/0"]
        assert Results(tmp_path).sweep("s").plan()["n"] >= 2


def test_temporary_files_of_others_are_removed_once_they_are_old(tmp_path, run):
    for folder in ("trials", "baselines"):
        for name, age in (("young", 0), ("old", 7200)):
            path = tmp_path / folder / f".{folder}{name}{files.LEFTOVER}"
            path.mkdir(parents=True)
            (path / "part").write_text("x")
            os.utime(path, (time.time() - age,) * 2)
    opened(tmp_path, name="two", fingerprint="f" * 64)
    Results(tmp_path).write_baseline("k", sample_rows())
    assert {path.name for path in tmp_path.glob(f"*/.*{files.LEFTOVER}")} == {".trialsyoung.tmp", ".baselinesyoung.tmp"}
    assert [run.name for run in Results(tmp_path).trials()] == ["one", "two"]
    assert Results(tmp_path).baselines() == ["k"]
