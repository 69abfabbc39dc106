"""What ranks the trials of a sweep: the dev score of the checkpoint that is tested, and the A/A band."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from raybridge.analysis.findings import Finding, band_over, find
from raybridge.analysis.summary import accuracy_table, best_on_dev, notes
from raybridge.results import Results
from raybridge.statistics import aa_band


def seeded(finding: Finding, seed: int, accuracy: float) -> Finding:
    """The same trial under another seed."""
    run = SimpleNamespace(fingerprint=f"{seed:064}", contents=finding.run.contents)
    arms = finding.arms | {"bridged": finding.arms["bridged"] | {"accuracy": accuracy}}
    return replace(finding, run=run, config=finding.config | {"seed": seed, "name": f"s{seed}"}, arms=arms, dev=accuracy)


def test_the_band_is_that_of_trials_that_differ_in_their_seed_alone(finished):
    asked, results = finished
    small, large = find(asked, results)
    assert band_over([small, large], results, split="test") is None
    three = [seeded(small, seed, accuracy) for seed, accuracy in ((5, 0.2), (6, 0.3), (7, 0.25))]
    for split in ("test", "dev"):
        assert band_over([*three, large], results, split=split) == pytest.approx(aa_band([0.2, 0.3, 0.25]))
    assert any(line.startswith(f"A/A band: {aa_band([0.2, 0.3, 0.25]):.3f} of test") for line in notes(three, results))
    told = "too few seeds: No A/A band: it cannot be estimated from two seeds in all; between configurations nothing is ranked."
    assert told in notes(three[:2], results)


def test_without_a_band_there_is_no_ranking_but_one_seed_each(finished):
    asked, results = finished
    findings = find(asked, results)
    assert (
        "one seed each: No A/A band: no two trials differ in their seed alone; between configurations nothing is ranked."
        in (notes(findings, results))
    )
    assert best_on_dev(findings, results).endswith("; one seed each: another seed may choose another")
    assert "seed" not in best_on_dev(findings[:1], results)


def test_the_band_of_replicates_is_that_of_a_sweep_without_seeds(finished, tmp_path):
    asked, results = finished
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    small, large = find(asked, copy)
    runs = []
    for seed, accuracy in ((5, 0.2), (6, 0.3), (7, 0.25)):
        run = copy.open_trial(name=f"s{seed}", fingerprint=f"{seed:064}", config=small.config | {"seed": seed}, provenance={})
        evals = small.run.evals()
        run.add_evals(evals.assign(accuracy=accuracy).to_dict("records"))
        run.finish(small.result | {"best": accuracy})
        runs.append({"name": run.name, "fingerprint": run.fingerprint})
    copy.sweep("replicates").write_plan({"trials": runs})
    for split in ("test", "dev"):
        assert band_over([large], copy, split=split) == pytest.approx(aa_band([0.2, 0.3, 0.25]))
    other = replace(large, config=large.config | {"target": "another"})
    assert band_over([other], copy, split="test") is None  # of other models
    assert "dev does not tell it from" in best_on_dev([small, large], copy)


def test_a_trial_that_is_tested_at_another_step_than_its_peak_is_named(finished):
    asked, results = finished
    small, large = find(asked, results)
    assert not any("another step" in line for line in notes([small, large], results))
    floor = replace(small, result=small.result | {"peak": 0.25, "peak_step": 2})
    (said,) = (line for line in notes([floor, large], results) if "another step" in line)
    assert said == (
        "tested and ranked at another step than their peak, which dev cannot tell from shuffled's: "
        "t_2tok at step 4 (peak 0.250 at 2)."
    )


def test_the_peak_ranks_nothing_and_the_checkpoint_that_is_tested_does(finished, tmp_path):
    asked, results = finished
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    for best, finding in zip((0.75, 0.5), find(asked, copy), strict=True):
        finding.run.finish(finding.result | {"best": best, "peak": 1.25 - best, "peak_step": 2})
    findings = find(asked, copy)
    assert [finding.dev for finding in findings] == [0.75, 0.5]
    assert best_on_dev(findings, copy).startswith("best on dev: t_2tok ")
    head, *rows = accuracy_table(findings)
    assert [row[head.index("dev")] for row in rows] == ["0.750 at 4", "0.500 at 4"]
