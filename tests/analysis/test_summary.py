"""The summary of a sweep, from tiny trials that were really trained and really evaluated."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from raybridge.analysis.findings import complete_of, find
from raybridge.analysis.summary import (
    accuracy_table,
    nll_table,
    notes,
    overheads,
    plain,
    write_summary,
)
from raybridge.data import draw
from raybridge.results import Results
from raybridge.scales import POCKET
from raybridge.statistics import compare, holm


def cells(finding, table=accuracy_table) -> dict[str, str]:
    """A finding's row by heading."""
    return dict(zip(*table([finding]), strict=True))


WHY = {"t_4tok": "loss is nan at step 7"}  # no result of this one


def test_a_finding_has_every_arm_and_its_control(finished):
    asked, results = finished
    findings = find(asked, results)
    assert [finding.name for finding in findings] == ["t_2tok", "t_64tok"]
    for finding in findings:
        assert {"bridged", "shuffled", "bridged_with_text", "target", "source", "no_context", "zero"} <= finding.arms.keys()
        assert finding.missing == []
        floor, text, *both = (finding.arms[arm]["nll"] for arm in ("no_context", "target", "bridged", "shuffled"))
        gaps = [(floor - ours) / (floor - text) for ours in both]
        assert [finding.gap_recovered(arm) for arm in ("bridged", "shuffled")] == pytest.approx(gaps)
        assert cells(finding)["test bridged"].startswith(f"{finding.arms['bridged']['accuracy']:.3f} [")
        row = cells(finding, nll_table)
        assert row["no context"] == f"{floor:.3f}"
        assert row["shuffled"] == f"{finding.arms['shuffled']['nll']:.3f}"
        assert row["gap recovered (shuffled)"] == f"{gaps[0]:z.2f} ({gaps[1]:z.2f})"


def test_transfer_is_bridged_against_shuffled_holm_corrected_over_the_sweep(finished):
    asked, results = finished
    findings = find(asked, results)
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
    asked, results = finished
    before = [plain(finding) for finding in find(asked, results)]
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    not_asked = [problem.id for problem in draw(POCKET.trial.evaluator.problems("test"), 16, seed=0)][8:]
    for finding in find(asked, copy):
        samples = finding.run.samples("pocket", "test", finding.result["best_step"])
        further = dict(zip(samples["problem"].unique(), not_asked, strict=False))  # never those that are drawn first
        more = samples.assign(problem=samples["problem"].map(further), score_strict=1.0, score_flexible=1.0)
        quantised = samples[samples["arm"] == "bridged"].assign(arm="bridged_int4")
        finding.run.write_samples("pocket", "test", finding.result["best_step"], pd.concat([more, samples, quantised]))
    assert [plain(finding) for finding in find(asked, copy)] == before


def test_the_trap_compression_in_name_only_is_flagged(finished):
    asked, results = finished
    small, large = find(asked, results)
    assert large.compression <= 1 < small.compression
    assert "(!)" in cells(large)["compression"]
    assert "(!)" not in cells(small)["compression"]
    text = write_summary(asked, sweep="s", question="?", results=results, why=WHY)
    assert "(!) no compression: at least as many soft tokens as question tokens in t_64tok." in text


def test_bytes_stand_beside_tokens_and_a_wire_that_takes_more_is_flagged(finished):
    asked, results = finished
    small, large = find(asked, results)
    row = large.arms["bridged"] | {"question_bytes": 240.0, "wire_bytes": 524_300.0}
    heavy = replace(large, arms=large.arms | {"bridged": row})
    assert cells(heavy)["bytes"] == "240/524,300 (0.0005x) (!)"
    assert any(line.startswith("(!) at least as many bytes on the wire as the question") for line in notes([heavy], results))
    light = replace(small, arms=small.arms | {"bridged": row | {"wire_bytes": 120.0}})
    assert cells(light)["bytes"] == "240/120 (2.0000x)"
    unknown = replace(small, arms=small.arms | {"bridged": row | {"wire_bytes": float("nan")}})
    assert cells(unknown)["bytes"] == "missing"


def test_what_is_written(finished):
    asked, results = finished
    text = write_summary(asked, sweep="s", question="How few?", results=results, why=WHY)
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
    assert [row.count("|") for row in rows] == [
        len(table([])[0]) + 1 for table in (accuracy_table, nll_table) for _ in range(4)
    ]


def test_the_trap_a_missing_baseline_is_said_and_is_no_zero(finished, tmp_path):
    asked, results = finished
    (tmp_path / "trials").symlink_to(results.root / "trials")
    bare = Results(tmp_path)
    finding, _ = find(asked, bare)
    assert finding.gap_recovered("bridged") is None
    assert finding.missing == ["source", "target", "token_budget", "zero", "no_context"]
    assert cells(finding)["text"] == "missing"
    row = cells(finding, nll_table)
    assert (row["text"], row["no context"], row["gap recovered (shuffled)"]) == ("missing", "missing", "-")
    assert plain(finding)["gap_recovered"] is None
    assert "target" not in plain(finding)["test"]
    text = write_summary(asked, sweep="s", question="?", results=bare, why=WHY)
    assert "missing baselines (not zero: never computed): source of t_2tok" in text


def test_a_measure_that_was_not_taken_is_null_in_the_summary_and_does_not_end_it(finished, tmp_path):
    asked, results = finished
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    for finding in find(asked, copy):
        samples = finding.run.samples("pocket", "test", finding.result["best_step"])
        finding.run.write_samples("pocket", "test", finding.result["best_step"], samples.assign(seconds=float("nan")))
    write_summary(asked, sweep="s", question="?", results=copy, why=WHY)
    told = json.loads((copy.sweep("s").path / "ablation_results.json").read_text(encoding="utf8"))
    row = told["trials"][0]["test"]["bridged"]
    assert row["seconds"] is None


def test_tables_fit_a_narrow_terminal_in_parts_and_the_log_has_them_whole(finished):
    asked, results = finished
    wide = write_summary(asked, sweep="s", question="?", results=results, why=WHY)
    narrow = write_summary(asked, sweep="s", question="?", results=results, why=WHY, width=80)
    assert (results.sweep("s").path / "summary.log").read_text() == wide
    rows = [line for line in narrow.splitlines() if line.startswith(("trial ", "NLL of ", "t_"))]
    tables = [line for line in rows if "first step" not in line]
    assert max(map(len, tables)) <= 80
    assert sum(line.startswith("trial ") for line in tables) > 1
    cells = [cell for line in wide.splitlines() if line.startswith("trial ") for cell in re.split("  +", line)]
    assert all(cell in narrow for cell in cells)


def test_samples_that_were_deleted_are_asked_for_by_their_directory(finished, tmp_path):
    asked, results = finished
    run = results.find(next(iter(asked)))
    other = Results(tmp_path).open_trial(name=run.name, fingerprint=run.fingerprint, config=run.config, provenance={})
    other.finish(run.result())
    with pytest.raises(ValueError, match=r"t_2tok.* has a result and no test samples"):
        find(asked, Results(tmp_path))


def test_overheads_say_when_the_first_step_came(finished):
    asked, results = finished
    (finding, *_) = find(asked, results)
    complete = {finding.name: finding.run}
    assert overheads(complete) == []
    (finding.run.path / "timing.json").write_text('{"started": 100.0, "first_step": 110.0, "ended": 140.0}', encoding="utf8")
    (said,) = overheads(complete)
    assert said == "t_2tok: first step 10.0 s after its start, 40 s in all, 25% outside training and evaluation"
    (finding.run.path / "timing.json").unlink()


def test_what_trains_no_translator_has_a_table_of_its_own(finished, tmp_path):
    asked, results = finished
    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    config = {"class": "fit:Fit", "name": "line", "seed": 1, "steps": 60}
    run = copy.open_trial(name="line", fingerprint="f" * 64, config=config, provenance={})
    run.finish({"name": "line", "fingerprint": "f" * 64, "steps": 60, "headline": {"name": "slope", "value": 0.5}})
    text = write_summary({"f" * 64: "line"}, sweep="s", question="?", results=copy, why={})
    assert text.splitlines()[2:5] == ["trial  steps  result", "line   60     slope 0.5", ""]
    assert "NLL" not in text
    both = write_summary({**asked, "f" * 64: "line"}, sweep="s", question="?", results=copy, why=WHY)
    assert "slope 0.5" in both
    assert "t_2tok" in both
    told = json.loads((copy.sweep("s").path / "ablation_results.json").read_text(encoding="utf8"))
    assert [one["name"] for one in told["trials"]] == ["t_2tok", "t_64tok"]
    assert complete_of({"f" * 64: "line"}, copy).keys() == {"line"}
