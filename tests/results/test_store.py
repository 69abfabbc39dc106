"""The folder of results: trials by name and fingerprint, what is damaged in it, where sweeps and outputs are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic
from opened import ENDED, PRINT, opened

from raybridge.plots import Runs
from raybridge.results import Results, files


def test_a_trial_appears_with_its_config_and_provenance(tmp_path, run):
    assert run.path == tmp_path / "trials" / "one-01234567"
    told = json.loads((run.path / "trial.json").read_text())
    assert told.pop("checksum")
    assert told == {"name": "one", "fingerprint": PRINT, "config": {"steps": 5}}
    assert (run.config, run.provenance) == ({"steps": 5}, {"commit": {"id": "abc"}})
    assert Results(tmp_path).trials() == [run]


def test_a_trial_is_found_by_its_fingerprint_whatever_its_name(tmp_path, run):
    again = opened(tmp_path, name="other")
    assert again == run
    assert Results(tmp_path).find(PRINT) == run
    assert len(Results(tmp_path).trials()) == 1


def test_fingerprints_that_begin_alike_are_not_confused(tmp_path, run):
    other = PRINT[:8] + "f" * 56
    assert Results(tmp_path).find(other) is None
    assert opened(tmp_path, name="two", fingerprint=other).path.name == "two-01234567"
    assert Results(tmp_path).find(other).name == "two"
    assert Results(tmp_path).find(PRINT).name == "one"
    with pytest.raises(ValueError, match=r"one-01234567.* another trial"):
        opened(tmp_path, name="one", fingerprint=PRINT[:8] + "e" * 56)


def test_no_results_is_no_error(tmp_path):
    results = Results(tmp_path / "nowhere")
    assert results.trials() == []
    assert results.sweeps() == []
    assert results.baselines() == []
    assert results.find(PRINT) is None
    assert results.baseline("k") is None
    assert results.sweep("s").plan() is None


def test_a_second_process_that_opens_the_same_trial_gets_the_first_ones(tmp_path, monkeypatch):
    """Both found nothing; the other one's directory appears in between."""
    results = Results(tmp_path)
    found = Results.find
    answers = iter([lambda fingerprint: None, lambda fingerprint: found(results, fingerprint)])
    first = opened(tmp_path)
    first.append_metrics({"step": 1})
    monkeypatch.setattr(results, "find", lambda fingerprint: next(answers)(fingerprint))
    assert results.open_trial(name="one", fingerprint=PRINT, config={}, provenance={}) == first
    assert first.metrics()["step"].tolist() == [1]
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["one-01234567"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{broken", r"trial\.json is not JSON \(.*line 1 column 2.*\); restore it or move its directory"),
        ("[1]", r"trial\.json must hold an object, not list"),
        ('{"name": "x"}', r"trial\.json: fingerprint is missing; it is damaged, or of another version"),
        (None, r"trial\.json is missing"),
    ],
)
def test_a_broken_trial_json_is_named_in_one_sentence(tmp_path, run, content, says):
    path = run.path / "trial.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=says) as caught:
        Results(tmp_path).trials()
    assert "\n" not in str(caught.value)


def test_a_damaged_trial_is_left_out_by_name_and_the_rest_is_there(tmp_path):
    whole, damaged = (synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, n=8) for k in (4, 8))
    path = damaged.path / "evals.parquet"
    written = bytearray(path.read_bytes())
    written[20] ^= 255  # in its first page
    path.write_bytes(written)
    runs = Runs(Results(tmp_path))
    assert list(runs.runs) == [whole.fingerprint]
    assert str(path) in runs.left_out[damaged.fingerprint]
    assert set(runs.evals["fingerprint"]) == {whole.fingerprint}


def test_a_name_has_room_for_its_fingerprint_and_temporary_names(tmp_path):
    run = opened(tmp_path, name="n" * 200)
    run.finish(ENDED)
    assert Results(tmp_path).find(PRINT) == run
    with pytest.raises(ValueError, match=r"trial name 'n+'\.\.\. is 201 bytes long; a directory's name has room for 200"):
        opened(tmp_path, name="n" * 201, fingerprint="f" * 64)


def test_sweeps_and_outputs_have_their_folders(tmp_path):
    results = Results(tmp_path)
    sweep = results.sweep("compression")
    assert not sweep.path.exists()
    sweep.write_plan({"trials": []})
    sweep.write_json("ablation_results.json", {"missing": []})
    assert results.sweeps() == [sweep]
    assert (sweep.name, sweep.plan()) == ("compression", {"trials": []})
    assert sweep.tune_path == tmp_path / "sweeps/compression/tune"
    assert results.write("figures/arms.pdf", b"%PDF").read_bytes() == b"%PDF"


def test_no_pickle_is_read_or_written():
    for path in Path(files.__file__).parent.glob("*.py"):
        source = path.read_text()
        assert not any(word in source for word in ("import pickle", "read_pickle", "to_pickle", "import torch", "np.load"))
