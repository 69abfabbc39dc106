"""What models and trials are called where a reader sees them."""

import json
import math

import pytest
import synthetic
from opened import plain

from raybridge.analysis.asked import only
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
    told = plain(run.path / "trial.json")
    (run.path / "trial.json").write_text(json.dumps(told | {"config": told["config"] | {"seed": seed}}))
    runs = Runs(Results(tmp_path))
    assert math.isnan(runs.trials["seed"].item())
    assert runs.trials["label"].item() == "banana_4tok"
    assert (seed_of({"seed": "12"}), seed_of({"seed": 0})) == (12.0, 0.0)


def test_runs_of_one_name_are_told_apart_by_the_folders_above_them(tmp_path):
    folders = ["day/exp001/all_fix", "day/exp002/all_fix", "hail_mary/a/runs/all_fix", "hail_mary/b/runs/all_fix", None, None]
    for number, folder in enumerate(folders):
        run = synthetic.trial(tmp_path, "all_fix", points=2, n=8, steps=100 + number)
        run.finish(run.result() | ({"folder": folder} if folder else {}))
    labels = set(Runs(Results(tmp_path)).trials["label"])
    assert labels == {"exp001/all_fix", "exp002/all_fix", "a/runs/all_fix", "b/runs/all_fix", "all_fix", "all_fix (2)"}


def test_trials_are_chosen_by_name_label_pattern_and_fingerprint(tmp_path):
    made = [
        synthetic.trial(tmp_path, f"2_s{seed}_{k}tok", soft_tokens=k, seed=seed, points=2, n=8)
        for k in (4, 8)
        for seed in (1, 2)
    ]
    runs = Runs(Results(tmp_path))

    def names(*asked: str) -> list[str]:
        return sorted(only(runs, asked).trials["trial"])

    assert names("2_s1_4tok") == ["2_s1_4tok"]
    assert names("2_8tok") == ["2_s1_8tok", "2_s2_8tok"]
    assert names("2_s1*", made[1].fingerprint[:8]) == ["2_s1_4tok", "2_s1_8tok", "2_s2_4tok"]
    assert set(only(runs, ["2_4tok"]).test["label"]) == {"2_4tok"}
    with pytest.raises(ValueError, match="unknown trial '2_9tok'; valid: 2_4tok, 2_8tok; did you mean"):
        only(runs, ["2_9tok"])
