"""The A/A band of trials that differ in their seed alone."""

from __future__ import annotations

import pandas as pd
import synthetic

from raybridge.analysis.replicates import band_of, band_told, bands_of_replicates, group_of
from raybridge.results import Results
from raybridge.statistics import aa_band


def test_a_group_is_what_differs_in_name_and_seed_alone():
    plain = {"name": "a", "seed": 1, "steps": 5}
    assert group_of(plain) == group_of({**plain, "name": "b", "seed": 2})
    assert group_of(plain) != group_of({**plain, "steps": 6})


def test_the_band_pools_the_spread_within_groups():
    rows = pd.DataFrame({"group": ["a", "b", "a", "b"], "accuracy": [0.1, 0.8, 0.2, 0.9], "nll": [1.0, 2.0, 1.0, 2.0]})
    assert band_of(rows) == aa_band([0.1, 0.2], [0.8, 0.9])
    assert band_of(rows, "nll") == 0.0
    assert band_of(rows.head(2)) is None


def test_a_band_that_cannot_be_estimated_is_no_number():
    assert band_told(band_of(pd.DataFrame({"group": ["a", "a", "b"], "accuracy": [0.1, 0.35, 0.9]})), [2, 1]) == (
        "No A/A band: it cannot be estimated from two seeds in all"
    )
    assert band_told(None, [1, 1]) == band_told(float("nan"), []) == "No A/A band: no two trials differ in their seed alone"
    assert band_told(0.0625, [3]) == "A/A band: 0.062 of test accuracy"


def test_the_bands_of_replicates_are_by_reading_at_the_best_step(tmp_path):
    assert bands_of_replicates(Results(tmp_path), "pocket", "test", "bridged") == {}
    runs = [synthetic.trial(tmp_path, f"s{seed}", seed=seed, points=2, n=40, level=seed - 1.0) for seed in (1, 2, 3)]
    runs.append(synthetic.trial(tmp_path, "other", steps=500, points=2, n=40))
    synthetic.sweep(tmp_path, "replicates", runs)
    bands = bands_of_replicates(Results(tmp_path), "pocket", "test", "bridged")
    for reading in synthetic.READINGS:
        evals = [run.evals().query(f"split == 'test' and arm == 'bridged' and reading == '{reading}'") for run in runs[:3]]
        assert bands[reading] == aa_band([rows["accuracy"].item() for rows in evals])
    assert bands_of_replicates(Results(tmp_path), "gsm8k", "test", "bridged") == {}
