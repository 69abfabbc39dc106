"""A model is what its files hold: wherever they lie, whatever they are called, however often they are asked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from raybridge.models import files, identity
from raybridge.models.identity import file_digest, model_identity, revision_of
from raybridge.models.names import POCKET

CONTENT = b"weights" * 1000


def parts(name: str) -> tuple[str, str, str]:
    told = model_identity(name)
    return told.weights, told.vocabulary, told.template


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(POCKET / "source", tmp_path / "copy")


def test_the_same_bytes_elsewhere_are_the_same_model(copy, monkeypatch):
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"org/name={copy}")
    (copy / "README.md").write_text("a copy", encoding="utf8")
    assert parts(str(copy)) == parts("org/name") == parts("pocket:source") != parts("pocket:target")
    assert revision_of("org/name") is None


def test_other_weights_under_the_same_name_are_another_model_at_once(copy):
    before = parts(str(copy))
    shutil.copy(copy / "model.safetensors", copy / "swapped")
    with (copy / "swapped").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    (copy / "swapped").replace(copy / "model.safetensors")
    after = parts(str(copy))
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_another_tokenizer_and_another_template_are_told_apart(copy):
    before = parts(str(copy))
    (copy / "chat_template.jinja").write_text("{{ messages }}", encoding="utf8")
    templated = parts(str(copy))
    assert (templated[:2], bool(templated[2])) == (before[:2], True)
    plain = json.loads((copy / "tokenizer.json").read_text(encoding="utf8"))
    (copy / "tokenizer.json").write_text(json.dumps(plain, indent=3), encoding="utf8")
    assert (parts(str(copy))[0], parts(str(copy))[1] == before[1]) == (before[0], False)


def test_bytes_are_the_code_that_reads_them():
    told = model_identity("bytes")
    assert told.weights == told.vocabulary
    assert (told.template, told.revision) == ("", None)


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Paths of the files that are read from now on, every one of which counts as large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "LARGE", 0)
    seen, really = [], identity._read

    def counted(path):
        seen.append(path.name)
        return really(path)

    monkeypatch.setattr(identity, "_read", counted)
    return seen


def test_a_large_file_is_read_once_and_again_when_it_changes(tmp_path, read):
    path = tmp_path / "large.safetensors"
    path.write_bytes(CONTENT)
    assert file_digest(path) == file_digest(path) == hashlib.sha256(CONTENT).hexdigest()
    assert read == ["large.safetensors"]
    kept = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as who copies times makes it
    assert file_digest(path) == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert len(read) == 2


def test_a_note_that_is_no_digest_is_read_anew(tmp_path, read):
    path = tmp_path / "large.safetensors"
    path.write_bytes(CONTENT)
    file_digest(path)
    (note,) = identity.cache().iterdir()
    note.write_text("cut", encoding="ascii")
    assert file_digest(path) == hashlib.sha256(CONTENT).hexdigest()
    assert len(read) == 2


def test_a_home_that_cannot_be_written_costs_another_reading_and_nothing_else(tmp_path, read, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "large.safetensors"
    path.write_bytes(CONTENT)
    assert file_digest(path) == file_digest(path) == hashlib.sha256(CONTENT).hexdigest()
    assert len(read) == 2


def test_a_blob_of_the_hubs_cache_is_known_by_its_name(tmp_path, read):
    digest = hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / digest).write_bytes(CONTENT)
    (tmp_path / "model.safetensors").symlink_to(digest)
    assert file_digest(tmp_path / "model.safetensors") == digest
    assert read == []


@pytest.fixture
def hub(monkeypatch, copy):
    """A hub that has the pocket source as org/source at commit abc; None of its files is here but those that are fetched."""
    identity._of_hub.cache_clear()

    def sibling(path):
        lfs = SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest()) if path.suffix == ".safetensors" else None
        return SimpleNamespace(rfilename=path.name, lfs=lfs)

    fetched = []

    def fetch(repository, name, *, revision):
        assert (repository, revision) == ("org/source", "abc")
        fetched.append(name)
        return str(copy / name)

    def told(api, repository, **options):
        if repository != "org/source":
            raise ConnectionError("no such repository")
        return SimpleNamespace(sha="abc", siblings=[sibling(path) for path in copy.iterdir()])

    def not_here(*args, **options):
        raise FileNotFoundError

    monkeypatch.setattr(identity.HfApi, "model_info", told)
    monkeypatch.setattr(identity, "snapshot_download", not_here)
    monkeypatch.setattr(identity, "cached_file", fetch)
    really = files.AutoTokenizer.from_pretrained
    monkeypatch.setattr(files.AutoTokenizer, "from_pretrained", lambda place, **options: really(str(copy)))
    yield fetched
    identity._of_hub.cache_clear()


def test_a_model_of_the_hub_is_what_its_files_are_and_no_weights_are_fetched(hub):
    assert parts("org/source") == parts("pocket:source")
    assert revision_of("org/source") == "abc"
    assert sorted(set(hub)) == ["config.json", "generation_config.json", "tokenizer.json"]


def test_a_model_that_the_hub_does_not_have_and_that_is_not_here_is_refused(hub):
    with pytest.raises(ValueError, match="model 'org/nothing' cannot be read from org/nothing: no such repository"):
        model_identity("org/nothing")


def test_a_fetched_model_is_known_without_the_hub(hub, monkeypatch, tmp_path):
    def unreachable(api, repository, **options):
        raise ConnectionError("no network")

    snapshot = shutil.copytree(POCKET / "source", tmp_path / "snapshots" / "def")
    monkeypatch.setattr(identity.HfApi, "model_info", unreachable)
    monkeypatch.setattr(identity, "snapshot_download", lambda *args, **options: str(snapshot))
    assert parts("org/source") == parts("pocket:source")
    assert revision_of("org/source") == "def"
