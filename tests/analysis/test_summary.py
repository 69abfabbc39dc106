"""The summary of a sweep, from tiny trials that were really trained and really evaluated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from local_runs import run_trial

from raybridge.analysis.summary import (
    ACCURACY,
    NLL,
    accuracy_cells,
    band_of,
    best_on_dev,
    find,
    nll_cells,
    notes,
    overheads,
    plain,
    write_summary,
)
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.setting import baseline_requests, problems_of
from raybridge.results import Results
from raybridge.scales import POCKET
from raybridge.statistics import aa_band, compare, holm
from raybridge.trial import Trial

WHY = {"t_4tok": "loss is nan at step 7"}  # no result of this one


def tiny(soft_tokens: int) -> Trial:
    translator = replace(POCKET.trial.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=4, warmup=1, batch=4, eval_every=4, dev_problems=8, test_problems=8)
    return replace(POCKET.trial, name=f"t_{soft_tokens}tok", translator=translator, **cut)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, models):
    """Two complete trials with every baseline, and one that never ran."""
    results = Results(tmp_path_factory.mktemp("results"))
    trials = [tiny(2), tiny(64), tiny(4)]
    for trial in trials[:2]:
        run_trial(trial, results, models)
        for _, key, requests in baseline_requests(trial, "test"):
            if results.baseline(key) is None:
                rows = [row for request in requests for row in answer(request, models)]
                results.write_baseline(key, in_order(rows, problems_of(trial, "test")))
    return trials, results


def test_a_finding_has_every_arm_and_its_control(finished):
    trials, results = finished
    findings = find(trials, results)
    assert [finding.trial.name for finding in findings] == ["t_2tok", "t_64tok"]
    for finding in findings:
        assert {"bridged", "shuffled", "bridged_with_text", "target", "source", "no_context", "zero"} <= finding.arms.keys()
        assert finding.missing == []
        floor, text, *both = (finding.arms[arm]["nll"] for arm in ("no_context", "target", "bridged", "shuffled"))
        gaps = [(floor - ours) / (floor - text) for ours in both]
        assert [finding.gap_recovered(arm) for arm in ("bridged", "shuffled")] == pytest.approx(gaps)
        assert len(accuracy_cells(finding)) == len(ACCURACY)
        row = dict(zip(NLL, nll_cells(finding), strict=True))
        assert row["no context"] == f"{floor:.3f}"
        assert row["shuffled"] == f"{finding.arms['shuffled']['nll']:.3f}"
        assert row["gap recovered (shuffled)"] == f"{gaps[0]:z.2f} ({gaps[1]:z.2f})"


def test_transfer_is_bridged_against_shuffled_holm_corrected_over_the_sweep(finished):
    trials, results = finished
    findings = find(trials, results)
    raw, nats = [], []
    for finding in findings:
        samples = finding.run.samples("pocket", "test", finding.result["best_step"])
        arms = {arm: part["score_strict"].tolist() for arm, part in samples.groupby("arm")}
        raw.append(compare(arms["shuffled"], arms["bridged"]))
        bridged, shuffled = (samples.loc[samples["arm"] == arm, "nll"] for arm in ("bridged", "shuffled"))
        nats.append(compare([0.0] * len(bridged), shuffled.to_numpy() - bridged.to_numpy()))
    assert [finding.transfer.p for finding in findings] == holm([one.p for one in raw])
    assert [finding.transfer.difference for finding in findings] == [one.difference for one in raw]
    assert [finding.transfer_nll.p for finding in findings] == holm([one.p for one in nats])
    assert [finding.transfer_nll.difference for finding in findings] == pytest.approx([one.difference for one in nats])


def test_what_evaluate_added_to_a_trial_moves_nothing(finished, tmp_path):
    trials, results = finished
    before = [plain(finding) for finding in find(trials, results)]
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    for finding in find(trials, copy):
        samples = finding.run.samples("pocket", "test", finding.result["best_step"])
        more = samples.assign(problem=samples["problem"] + "/more", score_strict=1.0, score_flexible=1.0)
        quantised = samples[samples["arm"] == "bridged"].assign(arm="bridged_int4")
        finding.run.write_samples("pocket", "test", finding.result["best_step"], pd.concat([more, samples, quantised]))
    assert [plain(finding) for finding in find(trials, copy)] == before


def test_the_trap_compression_in_name_only_is_flagged(finished):
    trials, results = finished
    small, large = find(trials, results)
    assert large.compression <= 1 < small.compression
    assert "(!)" in accuracy_cells(large)[ACCURACY.index("compression")]
    assert "(!)" not in accuracy_cells(small)[ACCURACY.index("compression")]
    text = write_summary(trials, sweep="s", question="?", results=results, why=WHY)
    assert "(!) no compression: at least as many soft tokens as question tokens in t_64tok." in text


def test_what_is_written(finished):
    trials, results = finished
    text = write_summary(trials, sweep="s", question="How few?", results=results, why=WHY)
    folder = results.sweep("s").path
    assert (folder / "summary.log").read_text(encoding="utf8") == text
    assert text.startswith("sweep s: How few?\n")
    assert "no result: t_4tok (loss is nan at step 7)" in text
    told = json.loads((folder / "ablation_results.json").read_text(encoding="utf8"))
    assert told["missing"] == ["t_4tok"]
    assert [one["name"] for one in told["trials"]] == ["t_2tok", "t_64tok"]
    assert told["trials"][0]["test"]["shuffled"]["n"] == 8
    markdown = (folder / "EXPERIMENTS_SUMMARY.md").read_text(encoding="utf8")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert [row.count("|") for row in rows] == [len(ACCURACY) + 1] * 4 + [len(NLL) + 1] * 4


def test_the_trap_a_missing_baseline_is_said_and_is_no_zero(finished, tmp_path):
    trials, results = finished
    (tmp_path / "trials").symlink_to(results.root / "trials")
    bare = Results(tmp_path)
    finding, _ = find(trials, bare)
    assert finding.gap_recovered("bridged") is None
    assert finding.missing == ["source", "target", "token_budget", "no_context", "zero"]
    assert dict(zip(ACCURACY, accuracy_cells(finding), strict=True))["text"] == "missing"
    row = dict(zip(NLL, nll_cells(finding), strict=True))
    assert (row["text"], row["no context"], row["gap recovered (shuffled)"]) == ("missing", "missing", "-")
    assert plain(finding)["gap_recovered"] is None
    assert "target" not in plain(finding)["test"]
    text = write_summary(trials, sweep="s", question="?", results=bare, why=WHY)
    assert "missing baselines (not zero: never computed): source of t_2tok" in text


def test_no_trial_complete_is_a_summary_that_says_so(trial, tmp_path):
    text = write_summary([trial], sweep="s", question="?", results=Results(tmp_path), why={"tiny": "killed"})
    assert "no result: tiny (killed)" in text
    assert "best on dev" not in text


def test_samples_that_were_deleted_are_asked_for_by_their_directory(finished, tmp_path):
    trials, results = finished
    run = results.find(trials[0].fingerprint)
    other = Results(tmp_path).open_trial(name=run.name, fingerprint=run.fingerprint, config=run.config, provenance={})
    other.finish(run.result())
    with pytest.raises(ValueError, match=r"t_2tok.* has a result and no test samples"):
        find(trials, Results(tmp_path))


def test_the_band_is_that_of_trials_that_differ_in_their_seed_alone(finished):
    trials, results = finished
    small, large = find(trials, results)
    assert band_of([small, large], [0.2, 0.9]) is None
    again = replace(small, trial=replace(small.trial, seed=5, name="again"))
    third = replace(small, trial=replace(small.trial, seed=6, name="third"))
    assert band_of([small, large, again, third], [0.2, 0.9, 0.3, 0.25]) == aa_band([0.2, 0.3, 0.25])
    assert not any("A/A band" in line for line in notes([small, large]))
    assert any("A/A band: 0.000 of test accuracy" in line for line in notes([small, again]))


def test_a_trial_that_is_tested_at_another_step_than_its_peak_is_named(finished):
    small, large = find(*finished)
    assert not any("another step" in line for line in notes([small, large]))
    floor = replace(small, result=small.result | {"peak_step": 2})
    (said,) = (line for line in notes([floor, large]) if "another step" in line)
    assert said == "tested at another step than their peak, whose accuracy dev cannot tell from shuffled's: t_2tok at step 4."


def test_what_dev_does_not_tell_from_the_best_is_named(finished):
    trials, results = finished
    findings = find(trials, results)
    names = {finding.trial.name for finding in findings}
    said = best_on_dev(findings)  # eight problems tell nothing apart
    best = said.removeprefix("best on dev: ").split()[0]
    assert f"dev does not tell it from {', '.join(names - {best})} (Holm-corrected p above 0.05)" in said


def test_a_trial_that_dev_tells_from_the_best_is_no_tie(finished, tmp_path):
    trials, results = finished
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    for score, finding in enumerate(find(trials, copy)):
        step = finding.result["peak_step"]
        samples = finding.run.samples("pocket", "dev", step)
        finding.run.write_samples("pocket", "dev", step, samples.assign(score_strict=float(score)))
        finding.run.finish(finding.result | {"peak": float(score)})
    said = best_on_dev(find(trials, copy))
    assert said == "best on dev: t_64tok (chosen on dev; its test figures were not used to choose it)"


def test_overheads_say_when_the_first_step_came(finished):
    trials, results = finished
    (finding, *_) = find(trials, results)
    assert overheads([finding]) == []
    (finding.run.path / "timing.json").write_text('{"started": 100.0, "first_step": 110.0, "ended": 140.0}', encoding="utf8")
    (said,) = overheads([finding])
    assert said == "t_2tok: first step 10.0 s after its start, 40 s in all, 25% outside training and evaluation"
    (finding.run.path / "timing.json").unlink()
