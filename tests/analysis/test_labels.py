"""What models and trials are called where a reader sees them."""

import json
import math

import pytest
import synthetic

from raybridge.analysis.labels import seed_of, short
from raybridge.plots import Runs
from raybridge.results import Results


def test_a_model_is_its_name_without_its_owner():
    assert short(["meta/Llama", "pocket:target", None]) == {"meta/Llama": "Llama", "pocket:target": "target", None: "unknown"}


@pytest.mark.parametrize(
    ("models", "labels"),
    [
        (["a/final", "b/final"], ["a/final", "b/final"]),
        (["/runs/a/final", "/runs/b/final", "x/other"], ["a/final", "b/final", "other"]),
        (["/one/a/final", "/two/a/final", "/two/b/final"], ["one/a/final", "two/a/final", "b/final"]),
        (["pocket:source", "mine/source"], ["source", "mine/source"]),
        (["a/final", "/a/final"], ["a/final", "/a/final"]),
        (["./final/", "./final"], ["./final/", "./final"]),
        (["a/final", "a/final"], ["final"]),
    ],
)
def test_models_of_one_name_are_told_apart_by_as_much_of_the_path_as_it_takes(models, labels):
    assert list(short(models).values()) == labels


def test_trials_of_models_of_one_name_are_two_pairs(tmp_path):
    for owner in ("first", "second"):
        plain = dict(source="models/a/final", target=f"models/{owner}/final")
        synthetic.trial(tmp_path, f"of_{owner}", soft_tokens=4, n=8, **plain)
    assert sorted(Runs(Results(tmp_path)).trials["pair"]) == ["a/final to first/final", "a/final to second/final"]


@pytest.mark.parametrize("seed", [None, "None", "abc"])
def test_a_seed_that_is_none_is_missing_and_the_name_stays_whole(tmp_path, seed):
    run = synthetic.trial(tmp_path, "banana_4tok", soft_tokens=4, n=8)
    told = json.loads((run.path / "trial.json").read_text())
    (run.path / "trial.json").write_text(json.dumps(told | {"config": told["config"] | {"seed": seed}}))
    runs = Runs(Results(tmp_path))
    assert math.isnan(runs.trials["seed"].item())
    assert runs.trials["label"].item() == "banana_4tok"
    assert (seed_of({"seed": "12"}), seed_of({"seed": 0})) == (12.0, 0.0)
