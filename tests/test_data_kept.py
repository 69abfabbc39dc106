"""Rows are read once a process, of one revision of the hub, and nobody's copy is another's."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest

from raybridge.data import origin, rows

HUB = ("org/made", None, "train")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that reads a file's rows; and how often the file was opened."""
    monkeypatch.setattr(origin, "_ROWS", origin.Kept(10_000))
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    opened, read_jsonl = [], origin.read_jsonl

    def counted(path, needs):
        opened.append(path)
        return read_jsonl(path, needs)

    monkeypatch.setattr(origin, "read_jsonl", counted)
    return lambda name="a.jsonl": [row for _, row in rows(name, HUB, ["question"])], opened


def write(folder, *questions: str, name: str = "a.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps({"question": one, "parts": [one]}) + "\n" for one in questions))


def test_a_file_is_read_once_and_what_one_reader_changes_the_next_does_not_see(read, tmp_path):
    found, opened = read
    write(tmp_path, "a", "b")
    first = found()
    first[0]["parts"].append("changed")
    first[1]["question"] = "changed"
    assert [(row["question"], row["parts"]) for row in found()] == [("a", ["a"]), ("b", ["b"])]
    assert len(opened) == 1


def test_another_file_of_the_same_name_is_read(read, tmp_path):
    found, opened = read
    write(tmp_path, "a")
    assert found() == [{"question": "a", "parts": ["a"]}]
    write(tmp_path, "b")
    os.utime(tmp_path / "a.jsonl", ns=(1, 1))
    assert found() == [{"question": "b", "parts": ["b"]}]
    assert len(opened) == 2


def test_what_was_not_read_to_its_end_is_not_kept(read, tmp_path):
    found, opened = read
    write(tmp_path, "a", "b")
    next(rows("a.jsonl", HUB, ["question"]))
    assert len(found()) == 2
    (tmp_path / "a.jsonl").write_text('{"question": "a"}\n{"question"\n')
    for _ in range(2):
        with pytest.raises(ValueError, match="line 2: not JSON"):
            found()
    assert len(opened) == 4


def test_no_more_is_kept_than_there_is_room_for(read, tmp_path):
    found, opened = read
    for name, size in (("a.jsonl", 2_000), ("b.jsonl", 2_000), ("huge.jsonl", 8_000)):
        write(tmp_path, "x" * size, name=name)
    for name in ("a.jsonl", "b.jsonl", "a.jsonl", "huge.jsonl", "huge.jsonl", "a.jsonl", "b.jsonl"):
        assert len(found(name)) == 1
    assert [path.name for path in opened] == ["a.jsonl", "b.jsonl", "huge.jsonl", "huge.jsonl"]


def test_all_that_comes_from_the_hub_is_of_one_revision_which_is_told(monkeypatch):
    asked, streams = [], []

    def dataset_info(self, dataset, timeout):
        asked.append(dataset)
        return SimpleNamespace(sha="abc123")

    def load_dataset(dataset, subset, *, split, streaming, revision):
        streams.append((split, revision))
        return [{"question": split}]

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("RAYBRIDGE_DATA", raising=False)
    monkeypatch.setattr(origin, "_ROWS", origin.Kept(10_000))
    monkeypatch.setattr(origin, "REVISIONS", {})
    monkeypatch.setattr(origin, "_asked", {})
    for split in ("train", "test", "train"):
        assert [row for _, row in rows("a.jsonl", ("org/told", None, split), ["question"])] == [{"question": split}]
    assert asked == ["org/told"]
    assert streams == [("train", "abc123"), ("test", "abc123")]
    assert origin.REVISIONS == {"org/told": "abc123"}


@pytest.fixture
def hub(monkeypatch):
    """A hub whose answers, commits or errors, are taken from a list; and the (split, revision) of what was streamed from it."""
    answers, streams = [], []

    def dataset_info(self, dataset, timeout):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(sha=answer)

    def load_dataset(dataset, subset, *, split, streaming, revision=None):
        streams.append((split, revision))
        return [{"question": split}]

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("RAYBRIDGE_DATA", raising=False)
    monkeypatch.delenv(origin.PINNED, raising=False)
    monkeypatch.setattr(origin, "_ROWS", origin.Kept(10_000))
    monkeypatch.setattr(origin, "REVISIONS", {})
    monkeypatch.setattr(origin, "_asked", {})
    return answers, streams


def from_hub(split: str) -> list[dict]:
    return [row for _, row in rows("a.jsonl", ("org/told", None, split), ["question"])]


def test_a_hub_that_did_not_answer_is_asked_again_and_what_was_read_meanwhile_stays_of_an_unknown_revision(hub, caplog):
    answers, streams = hub
    answers += [TimeoutError("too slow"), None, "abc123"]
    for split in ("train", "test"):
        from_hub(split)
        assert origin.REVISIONS == {"org/told": "unknown"}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all("'org/told' of the hub is read at no known revision, and recorded as unknown" in one for one in said)
    assert "too slow" in said[0]
    from_hub("dev")
    from_hub("more")
    assert streams == [("train", None), ("test", None), ("dev", "abc123"), ("more", "abc123")]
    assert (origin.REVISIONS, answers, len(caplog.records)) == ({"org/told": "unknown"}, [], 2)


def test_a_hub_that_cannot_be_read_at_all_is_no_revision_that_was_read(hub, monkeypatch, caplog):
    answers, _ = hub
    answers.append(ConnectionError())

    def load_dataset(*_, **__):
        raise ConnectionError

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(origin.UnreachableError):
        from_hub("train")
    assert (origin.REVISIONS, caplog.records) == ({}, [])


def test_a_process_reads_at_the_revision_of_whoever_started_it(hub, monkeypatch):
    answers, streams = hub
    assert origin.revisions_to_tell() == {}
    answers.append("abc123")
    from_hub("train")
    told = origin.revisions_to_tell()
    monkeypatch.setattr(origin, "_asked", {})  # as in another process
    monkeypatch.setattr(origin, "REVISIONS", {})
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    from_hub("test")
    assert streams == [("train", "abc123"), ("test", "abc123")]
    assert (origin.REVISIONS, origin.revisions_to_tell()) == ({"org/told": "abc123"}, told)
