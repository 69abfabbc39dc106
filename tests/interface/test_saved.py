"""A bridge in the layout of the hub: read back it is the same, its card says what it scored, and what is odd is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_bridge import QUESTIONS

import raybridge
from raybridge.interface import saved
from raybridge.interface.card import card_of
from raybridge.interface.loading import kept_of
from raybridge.models.names import POCKET


@pytest.fixture
def folder(run, tmp_path) -> Path:
    raybridge.load(run.path, device="cpu").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_what_was_saved_is_the_same_bridge(run, folder):
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors", "result.json"]
    before, after = kept_of(run.path), kept_of(folder)
    assert (after.name, after.step, after.trial, after.result) == (before.name, before.step, before.trial, before.result)
    assert before.weights.keys() == after.weights.keys()
    assert all(torch.equal(before.weights[name], after.weights[name]) for name in before.weights)
    first, second = (raybridge.load(of, device="cpu") for of in (run.path, folder))
    assert first.answer(QUESTIONS) == second.answer(QUESTIONS)
    second.save_pretrained(folder)  # over itself
    assert kept_of(folder).trial == before.trial


def test_card_has_the_scores_beside_their_controls_and_what_they_show(run):
    card = card_of(kept_of(run.path))
    rows = [line for line in card.splitlines() if line.startswith("| ") and "[" in line]
    assert rows == [
        "| bridged | strict | 0.500 [0.400, 0.600] | 200 | 0.250 |",
        "| shuffled (control) | strict | 0.100 [0.050, 0.200] | 200 | 2.500 |",
        "| zero (control) | strict | 0.000 [0.000, 0.040] | 200 | 3.000 |",
    ]
    assert "its interval lies above that of `shuffled`" in card
    assert card.startswith("---\nlibrary_name: raybridge\n")


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ({}, "No result was kept with it"),
        ({"bridged": 0.5}, "Its control `shuffled` was not measured"),
        ({"bridged": 0.5, "shuffled": 0.5}, "by accuracy no transfer is shown"),
    ],
)
def test_card_says_what_nothing_shows(run, test, says):
    scored = {
        arm: {"strict": {"accuracy": at, "low": at - 0.1, "high": at + 0.1, "n": 20, "nll": None}} for arm, at in test.items()
    }
    assert says in card_of(replace(kept_of(run.path), result={"test": scored}))


def test_hub_ids_are_told_as_base_models_and_paths_are_not(run, tmp_path, monkeypatch):
    kept = kept_of(run.path)
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"org/source={POCKET / 'source'}")
    named = replace(kept, trial=replace(kept.trial, source="org/source", target=str(POCKET / "target")))
    saved.save_pretrained(named, tmp_path / "saved")
    card, config = ((tmp_path / "saved" / name).read_text() for name in ("README.md", "config.json"))
    assert "base_model:\n- org/source\n---" in card
    assert "`target`" in card
    assert str(POCKET) not in card + config
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"org/source={POCKET / 'source'},target={POCKET / 'target'}")
    other = raybridge.load(tmp_path / "saved", device="cpu")
    assert other.answer(QUESTIONS[:1]) == raybridge.load(run.path, device="cpu").answer(QUESTIONS[:1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda told: told.update(layout=2), "layout is 2; this raybridge reads 1"),
        (lambda told: told.update(step="4"), "step must be a whole number"),
        (lambda told: told.update(fingerprint="0" * 64), "its trial has the fingerprint"),
        (lambda told: told.update(trial=None), "its trial is none"),
        (lambda told: told["trial"].update({"class": "os:system"}), "its trial cannot be built here: .*os:system"),
        (lambda told: told["trial"]["translator"].update(width=128), "model.safetensors: .* its config asks for"),
    ],
)
def test_a_config_that_is_odd_is_refused(folder, change, says):
    told = json.loads((folder / "config.json").read_text())
    change(told)
    if "width" in str(says) or "asks for" in says:
        told["fingerprint"] = saved.rebuild(told["trial"]).fingerprint
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=says):
        raybridge.load(folder)


def test_weights_that_are_cut_or_lack_one_are_refused(folder):
    file = folder / "model.safetensors"
    whole = load_file(file)
    save_file(dict(list(whole.items())[1:]), file)
    with pytest.raises(ValueError, match=r"model\.safetensors: .* is absent"):
        raybridge.load(folder)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read"):
        raybridge.load(folder)


def test_a_folder_of_something_else_is_not_written_into(run, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        raybridge.load(run.path, device="cpu").save_pretrained(tmp_path)


class Hub:
    """A hub that keeps what it is given in a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, []

    def __call__(self, *, token: str | None) -> Hub:
        self.made.append(("token", token))
        return self

    def create_repo(self, repository: str, **told: object) -> None:
        self.made.append((repository, told))

    def upload_folder(self, *, repo_id: str, folder_path: Path, **told: object) -> SimpleNamespace:
        self.made.append((repo_id, told))
        for file in Path(folder_path).iterdir():
            (self.root / file.name).write_bytes(file.read_bytes())
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_what_is_pushed_can_be_loaded_from_the_hub(run, tmp_path, monkeypatch):
    hub = Hub(tmp_path)
    monkeypatch.setattr(saved, "HfApi", hub)
    bridge = raybridge.load(run.path, device="cpu")
    assert bridge.push_to_hub("me/bridge", private=True, token="secret") == "https://hub/me/bridge/commit/1"
    assert hub.made[:2] == [("token", "secret"), ("me/bridge", {"private": True, "exist_ok": True, "repo_type": "model"})]
    assert hub.made[2][1]["repo_type"] == "model"
    assert not any("secret" in file.read_text(errors="replace") for file in tmp_path.iterdir())
    fetched = []

    def fetch(repository: str, *, allow_patterns: list[str]) -> str:
        fetched.append((repository, sorted(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr("raybridge.interface.loading.snapshot_download", fetch)
    again = raybridge.load("me/bridge", results=run.root, device="cpu")
    assert fetched == [("me/bridge", sorted(file.name for file in tmp_path.iterdir()))]
    assert again.answer(QUESTIONS) == bridge.answer(QUESTIONS)


def test_what_is_neither_here_nor_on_the_hub_is_refused_in_a_sentence(run, monkeypatch, tmp_path):
    def fetch(repository: str, **told: object) -> str:
        raise OSError("no such repository\nand a page of advice")

    monkeypatch.setattr("raybridge.interface.loading.snapshot_download", fetch)
    with pytest.raises(ValueError, match=r"unknown trial 'me/bridge'; .* from the hub: no such repository$"):
        raybridge.load("me/bridge", results=run.root)
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("raybridge.interface.loading.snapshot_download", lambda repository, **told: str(tmp_path))
    with pytest.raises(ValueError, match="me/bridge on the hub holds no bridge"):
        raybridge.load("me/bridge", results=run.root)


def test_card_index_is_yaml_that_the_hub_reads(run):
    head = re.match(r"---\n(.*?)\n---\n", card_of(kept_of(run.path)), re.DOTALL)
    import yaml

    assert yaml.safe_load(head[1]) == {"library_name": "raybridge", "tags": ["raybridge", "soft-tokens"]}
