"""What workers are told who stand elsewhere: paths, models and code, and no secret that would be written down."""

from __future__ import annotations

import os
import pickle
import socket
import zipfile
from pathlib import Path

import pytest
import ray
from ray import cloudpickle
from ray._private.runtime_env import packaging

import raybridge
from raybridge import HOUSE
from raybridge.cluster import session
from raybridge.cluster.imports import MODELS
from raybridge.data import data_folder, origin
from raybridge.evaluation import provenance
from raybridge.models import names

NAMES = (
    "RAY_ADDRESS",
    "RAYBRIDGE_HERE",
    "RAYBRIDGE_DATA",
    "RAYBRIDGE_MODELS",
    provenance.COMMIT,
    *session.FOLDERS,
    session.SECRET,
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A user's folder with spaces and letters of any script in its name, in which the command is called."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "meine Läufe 尺寸"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_what_travels_leads_to_the_same_places_from_anywhere(elsewhere, monkeypatch, tmp_path):
    for name in ("data", "models/x", "models/y, z", "hub"):
        (elsewhere / name).mkdir(parents=True)
    monkeypatch.setenv("RAYBRIDGE_DATA", "data")
    monkeypatch.setenv("RAYBRIDGE_MODELS", "org/x=models/x")
    monkeypatch.setenv("HF_HOME", "hub")
    told = session.travelling()
    monkeypatch.chdir(tmp_path)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert data_folder() == elsewhere / "data"
    assert names.place("org/x") == names.place("./models/x") == names.place("models/x") == str(elsewhere / "models/x")
    assert names.place("./models/y, z") == str(elsewhere / "models/y, z")
    assert os.environ["HF_HOME"] == str(elsewhere / "hub")
    assert session.travelling() == told  # a worker that starts others tells them the same
    assert session.travelling(("b", "a")) == told | {MODELS: '["a", "b"]'}
    monkeypatch.setenv(MODELS, '["a", "b"]')
    assert session.travelling() == told | {MODELS: '["a", "b"]'}
    monkeypatch.delenv(MODELS)


@pytest.mark.parametrize("dirty", [False, True])
def test_the_commit_travels_to_code_without_a_history(monkeypatch, dirty):
    none = {"id": None, "dirty": None}
    monkeypatch.setattr(provenance, "_commit_of_clone", lambda: {"id": "5c92745", "dirty": dirty})
    told = session.travelling()
    monkeypatch.setattr(provenance, "_commit_of_clone", lambda: none)
    assert provenance.commit() == none
    assert provenance.COMMIT not in session.travelling()
    monkeypatch.setenv(provenance.COMMIT, told[provenance.COMMIT])
    assert provenance.commit() == {"id": "5c92745", "dirty": dirty}
    assert session.travelling()[provenance.COMMIT] == told[provenance.COMMIT]  # a worker that starts others


def test_revisions_of_the_hub_travel(monkeypatch):
    monkeypatch.setattr(origin, "_asked", {"openai/gsm8k": "abc123"})
    told = session.travelling()
    monkeypatch.setattr(origin, "_asked", {})
    monkeypatch.setenv(origin.PINNED, told[origin.PINNED])
    assert origin.hub_revision("openai/gsm8k") == ("abc123", "")


def test_the_house_is_sent_and_nothing_hidden_or_of_results(tmp_path):
    house, code = tmp_path / "house", ["raybridge/__init__.py", "sweeps/compression.py"]
    for name in (*code, ".git/config", "raybridge/.cache/a.py", "ray_results/a.json", "docs/a.png", "tests/test_a.py"):
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text("1")
    package = tmp_path / "sent.zip"
    packaging.create_package(str(house), package, include_gitignore=True, excludes=session.NOT_SENT)
    with zipfile.ZipFile(package) as sent:
        assert sorted(sent.namelist()) == code


def test_a_token_travels_and_is_not_written_down(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    env = session.shipped()
    hook = env.pop("worker_process_setup_hook")
    assert "hf_secret" not in repr(env)
    assert "hf_secret" not in repr(hook)
    monkeypatch.delenv("HF_TOKEN")
    pickle.loads(cloudpickle.dumps(hook))()
    assert os.environ["HF_TOKEN"] == "hf_secret"
    monkeypatch.delenv("HF_TOKEN")
    assert "worker_process_setup_hook" not in session.shipped()


def test_an_existing_cluster_gets_the_code_that_runs_here(monkeypatch, tmp_path):
    assert session.shipped()["working_dir"] == str(HOUSE)
    package = Path(raybridge.__file__).parent
    monkeypatch.setattr(session, "HOUSE", package / "house")  # as a wheel installs it
    env = session.shipped()
    assert env["py_modules"] == [str(package)]
    assert "working_dir" not in env


def test_a_cluster_of_ones_own_is_started_whatever_runs_on_this_machine(monkeypatch, elsewhere):
    asked = []

    def init(*address, **options):
        asked.append((address, os.environ["RAYBRIDGE_HERE"]))

    monkeypatch.setattr(ray, "init", init)
    with session.connected(num_gpus=0):
        assert "RAYBRIDGE_HERE" not in os.environ
    assert asked == [(("local",), str(elsewhere))]


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1:{}"), ("::1", "[::1]:{}"), ("::1", "ray://[::1]:{}")])
def test_an_address_of_either_kind_is_knocked_at(host, address):
    try:
        listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    port = listening.getsockname()[1]
    with listening:
        session.knock(address.format(port))
    with pytest.raises(ConnectionError):
        session.knock(address.format(port))


class Lost(ray.exceptions.RayError):
    pass


def test_what_ray_says_is_one_sentence(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda *address, **options: None)
    with pytest.raises(RuntimeError, match=r"^Ray: The GCS is gone\.$"), session.connected():
        raise Lost("Traceback\n  of many lines\nThe GCS is gone.")
