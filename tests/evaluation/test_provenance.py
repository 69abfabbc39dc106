"""Where numbers come from: every trial of every sweep can say it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from raybridge import HOUSE
from raybridge.data import origin, rows
from raybridge.evaluation import provenance
from raybridge.evaluation.identity import sealed
from raybridge.evaluation.provenance import conditions, model_told, provenance_of
from raybridge.models.identity import model_identity
from raybridge.results import readers
from raybridge.results.contents import ModelContents
from raybridge.results.schema.checking import check_record
from raybridge.scales import POCKET
from raybridge.sweep_file import load

SWEEPS = sorted((HOUSE / "sweeps").glob("[!_]*.py"))


@pytest.mark.parametrize("file", [file for file in SWEEPS if "pocket" in load(file).axes], ids=lambda file: file.stem)
def test_every_trial_of_a_sweep_says_where_it_comes_from(file):
    for trial in load(file).trials(POCKET):
        told = json.loads(json.dumps(provenance_of(trial)))
        assert told["models"].keys() == {trial.source, trial.target}
        assert all(told["models"].values())
        assert check_record(told, readers.PROVENANCE, "provenance.json") == told


def test_a_model_is_told_by_digests_of_what_it_is(trial):
    told = provenance_of(replace(trial, source="bytes"))["models"]
    assert told["bytes"].keys() == told[trial.target].keys() == {"weights", "tokenizer", "template"}
    assert told["bytes"]["template"] == ""
    assert told[trial.target]["weights"] == model_identity(trial.target).weights


def test_a_trial_whose_contents_are_known_is_not_looked_at_again(trial, monkeypatch):
    known = sealed(trial, device="cpu")
    told = provenance_of(known)["models"]
    monkeypatch.setattr(provenance, "model_identity", lambda name: pytest.fail(f"{name} was looked at again"))
    assert provenance_of(known)["models"] == told


def test_a_model_of_the_hub_is_told_with_its_commit(monkeypatch):
    monkeypatch.setattr(provenance, "revision_of", lambda name: "abc")
    assert model_told("some/model", ModelContents(weights="1", tokenizer="2", template=""))["revision"] == "abc"


def test_what_a_folder_of_data_lacks_is_told_by_its_revision_on_the_hub(monkeypatch, tmp_path):
    streamed = SimpleNamespace(load_dataset=lambda *_, revision, **__: [{"question": revision}])
    monkeypatch.setitem(sys.modules, "datasets", streamed)
    monkeypatch.setattr(origin, "REVISIONS", {})
    monkeypatch.setattr(origin, "_asked", {"org/told": "abc123"})
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    assert (conditions()["data"], conditions()["datasets"]) == ("RAYBRIDGE_DATA", None)
    assert [row for _, row in rows("not/there.jsonl", ("org/told", None, "test"), ["question"])] == [{"question": "abc123"}]
    told = conditions()
    assert (told["data"], told["datasets"]) == ("RAYBRIDGE_DATA", {"org/told": "abc123"})
    assert check_record(told, readers.PROVENANCE, "provenance.json") == told
    monkeypatch.delenv("RAYBRIDGE_DATA")
    assert (conditions()["data"], conditions()["datasets"]) == (None, {"org/told": "abc123"})


def test_a_record_of_before_that_tells_revisions_as_its_data_is_read():
    told = {"data": {"org/told": "abc123"}}
    assert check_record(told, readers.PROVENANCE, "provenance.json") == told
    with pytest.raises(ValueError, match="data must be text or an object, not '3'"):
        check_record({"data": 3}, readers.PROVENANCE, "provenance.json")
