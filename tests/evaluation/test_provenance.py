"""Where numbers come from: every trial of every sweep can say it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from raybridge import HOUSE
from raybridge.evaluation.provenance import model_identity, provenance_of
from raybridge.scales import POCKET
from raybridge.sweep_file import load

SWEEPS = sorted((HOUSE / "sweeps").glob("[!_]*.py"))


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_trial_of_a_sweep_says_where_it_comes_from(file):
    for trial in load(file).trials(POCKET):
        told = json.loads(json.dumps(provenance_of(trial)))
        assert told["models"].keys() == {trial.source, trial.target}
        assert all(told["models"].values())


def test_a_model_is_identified_by_its_files_or_by_the_code_that_makes_it(tmp_path, trial):
    (tmp_path / "config.json").write_text("{}", encoding="utf8")
    before = model_identity.__wrapped__(str(tmp_path))
    (tmp_path / "config.json").write_text("[]", encoding="utf8")
    assert model_identity.__wrapped__(str(tmp_path)) != before
    assert model_identity("some/model") == {"hub": "some/model"}
    assert provenance_of(replace(trial, source="bytes"))["models"]["bytes"].keys() == {"code_sha256"}
