"""Earlier runs: what is read from them, what is refused, and what the commands say of them."""

import json
import os
import re
import tarfile
from pathlib import Path

import pytest
from earlier import LOG, PREFIX, line, run_of, said
from typer.testing import CliRunner

from evaluators.gsm8k import GSM8K
from raybridge.analysis.compare import Asked, compare_readings, findings, sentence
from raybridge.evaluate import app
from raybridge.evaluation.earlier.records import find_runs, read_run
from raybridge.evaluation.earlier.write import write_run
from raybridge.plots import Runs
from raybridge.results import Results

RECORDS = Path(os.environ.get("RAYBRIDGE_DATA", "absent")).parent / "latentwire" / "phase1_all_fix.tar.xz"


def test_a_run_becomes_a_trial_that_is_marked_imported(made, tmp_path) -> None:
    folder = made(
        {"20": run_of("20", {0, 1, 2, 3, 4, 5}), "40": run_of("40", {0, 1, 2, 3}), "final": run_of("final", {0, 1, 2, 3, 4})}
    )
    recorded = read_run(folder, GSM8K())
    run = write_run(recorded, Results(tmp_path / "results"), GSM8K())
    assert [run.config["imported"], run.provenance["imported"], run.result()["imported"]] == [True] * 3
    assert run.path.name.startswith("made_run-")
    evals = run.evals().query("arm == 'bridged' and reading == 'strict'")
    assert evals[["step", "n", "accuracy", "invalid"]].to_numpy().tolist() == [
        [20, 8, 0.75, 0],
        [40, 8, 0.5, 0],
        [41, 8, 0.625, 0],
    ]
    assert evals["recorded_as"].tolist() == ["20", "40", "final"]
    assert evals["imported"].all()
    assert evals["soft_tokens"].tolist() == [64] * 3
    assert {name: run.result()[name] for name in ("peak", "peak_step", "final", "degradation", "steps", "stopped")} == {
        "peak": 0.75,
        "peak_step": 20,
        "final": 0.625,
        "degradation": 0.125,
        "steps": 40,
        "stopped": "finished",
    }
    assert run.result()["test"]["target"]["strict"]["accuracy"] == 1.0
    assert run.metrics()["step"].tolist() == [20, 40]
    assert run.metrics()["loss"].isna().tolist() == [False, True]
    samples = run.samples("gsm8k", "test", 41)
    assert samples["arm"].tolist() == ["source"] * 8 + ["target"] * 8 + ["bridged"] * 8
    assert samples["problem"].iloc[0] == "gsm8k/test/0"


def test_linked_directories_are_found_once_and_a_circle_ends(made, tmp_path) -> None:
    folder = made({"40": run_of("40", {0})})
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "linked").symlink_to(folder)
    (runs / "again").symlink_to(folder)
    (runs / "round").symlink_to(runs)
    (folder / "up").symlink_to(runs)
    assert [path.resolve() for path in find_runs([runs])] == [folder]
    assert find_runs([folder, runs]) == [folder]
    assert read_run(find_runs([runs])[0], GSM8K()).name == "made_run"


@pytest.mark.parametrize("seed", ["None", "nan", "by the clock", "1.5"])
def test_a_seed_that_is_no_number_is_missing_and_the_figures_are_drawn(made, tmp_path, seed) -> None:
    results = Results(tmp_path / "results")
    folder = made(
        {"40": run_of("40", {0})}, log=LOG.format(soft_tokens=64, mode="soft_only", used=64).replace("seed: 7", f"seed: {seed}")
    )
    run = write_run(read_run(folder, GSM8K()), results, GSM8K())
    assert run.config["seed"] is None
    assert Runs(results).trials["seed"].isna().tolist() == [True]


def test_a_long_name_of_a_directory_is_cut(made, tmp_path) -> None:
    run = write_run(read_run(made({"40": run_of("40", {0})}, name="n" * 250), GSM8K()), Results(tmp_path / "r"), GSM8K())
    assert run.name == "n" * 200


def test_missing_is_not_zero(made, tmp_path) -> None:
    run = write_run(read_run(made({"40": run_of("40", {0})}), GSM8K()), Results(tmp_path / "results"), GSM8K())
    for name in ("nll", "nll_tokens", "truncated", "prompt_tokens", "generated_tokens"):
        assert run.evals()[name].isna().all(), name
        assert run.samples("gsm8k", "test", 40)[name].isna().all(), name


def test_importing_again_changes_nothing_and_finishes_what_a_kill_left(made, tmp_path) -> None:
    recorded = read_run(made({"40": run_of("40", {0})}), GSM8K())
    run = write_run(recorded, Results(tmp_path / "results"), GSM8K())
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert write_run(recorded, Results(tmp_path / "results"), GSM8K()) == run
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    (run.path / "result.json").unlink()
    run.truncate_metrics(20)
    write_run(recorded, Results(tmp_path / "results"), GSM8K())
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_two_runs_with_the_same_options_are_two_trials(made, tmp_path) -> None:
    runs = [read_run(made({"40": run_of("40", right)}, name=name), GSM8K()) for name, right in {"one": {0}, "two": {1}}.items()]
    assert len({write_run(run, Results(tmp_path / "results"), GSM8K()).fingerprint for run in runs}) == 2


def test_bridged_means_soft_tokens_only(made) -> None:
    alone = read_run(made({"40": run_of("40", {0})}, name="alone", mode="soft_only"), GSM8K())
    text = read_run(made({"40": run_of("40", {0})}, name="text", mode="soft_plus_text"), GSM8K())
    assert (alone.bridge, text.bridge) == ("bridged", "bridged_with_text")
    assert set(text.evaluations[0].samples["arm"]) == {"source", "target", "bridged_with_text"}
    assert any("nothing was compressed" in note for note in text.notes)


def test_gold_is_never_read_from_the_few_shot_prefix(made) -> None:
    """The prefix's last marker says 7, which is what the source answers: read from there, all would be right."""
    rows = [line("40", 0), line("40", 1, gold_extracted="7")]
    recorded = read_run(made({"40": rows}), GSM8K())
    samples = recorded.evaluations[0].samples
    assert samples.query("arm == 'source'")["score_strict"].tolist() == [0, 0]
    assert samples.query("arm == 'target'")["score_strict"].tolist() == [1, 1]
    assert any(
        "of 1 problems (the first is gsm8k/test/1) the gold was extracted as another answer" in note for note in recorded.notes
    )


def test_an_empty_completion_is_invalid_and_told(made) -> None:
    rows = [line("40", 0, bridged_full="", bridged_extracted="[invalid]"), line("40", 1)]
    recorded = read_run(made({"40": rows}), GSM8K())
    bridged = recorded.evaluations[0].samples.query("arm == 'bridged'")
    assert bridged["answer_strict"].isna().tolist() == [True, False]
    assert bridged["score_strict"].tolist() == [0, 0]
    assert any("1 empty completion counts as invalid for bridged (the first: gsm8k/test/0)" in note for note in recorded.notes)


def test_run_on_completions_are_counted(made, tmp_path) -> None:
    rows = [line("40", 0, bridged_full="#### 10\n\nQ: Another?\nA: #### 99"), line("40", 1)]
    recorded = read_run(made({"40": rows}), GSM8K())
    assert any("1 of 6 completions run on into a new question" in note for note in recorded.notes)
    evals = write_run(recorded, Results(tmp_path / "results"), GSM8K()).evals().set_index(["arm", "reading"])
    assert evals.loc[("bridged", "strict"), ["correct", "ran_on"]].tolist() == [1, 1]
    assert evals.loc[("bridged", "flexible"), "correct"] == 0


def test_a_run_that_ends_at_its_peak_is_not_compared_with_itself(made, tmp_path) -> None:
    folder = made({"20": run_of("20", {0}), "40": run_of("40", {0, 1})})
    result = CliRunner().invoke(app, ["import-runs", str(folder), "--results", str(tmp_path / "results")])
    assert result.exit_code == 0
    assert "the last evaluation is the peak: there is no fall to test" in said(result)
    assert "against step" not in said(result)


def test_problems_that_are_not_the_official_ones_keep_apart(made) -> None:
    official = {"gsm8k/test/0": "Bo has 0 nuts and buys 10. How many?", "gsm8k/test/1": "Something else?"}
    recorded = read_run(made({"40": [line("40", 0), line("40", 1)]}), GSM8K(), official=official)
    first, second = recorded.evaluations[0].samples["problem"].unique()
    assert first == "gsm8k/test/0"
    assert second.startswith("gsm8k/other/")
    assert any("the question is not the official test problem" in note for note in recorded.notes)


BAD = {
    "a broken line": ("{\n", r"eval_samples_step_40\.jsonl, line 3: not JSON"),
    "a missing field": ({"bridged_full": ...}, r"line 3: no field 'bridged_full'"),
    "a null": ({"bridged_full": None}, r"line 3: field 'bridged_full' is null"),
    "no text": ({"bridged_full": 3}, r"line 3: field 'bridged_full' must be text, not int"),
    "duplicate ids": ({"index": 0}, r"line 3: index 0 occurs twice, first in line 1"),
    "no index": ({"index": "2"}, r"line 3: index must be a number from 0 on, not '2'"),
    "a gold that was not found": (
        {"gold_extracted": "[invalid]"},
        r"line 3: a gold without an answer \(gold_extracted holds none",
    ),
    "an empty gold": ({"gold_extracted": ""}, r"line 3: a gold without an answer \(gold_extracted holds none"),
    "a gold without a marker": ({"gold_full_text": PREFIX}, r"line 3: a gold without an answer \(gold_full_text holds none"),
    "another step": ({"eval_step": "20"}, r"line 3: eval_step is '20' in a file of step 40"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(made, tmp_path, case: str) -> None:
    change, message = BAD[case]
    folder = made({"20": run_of("20", {0}), "40": [line("40", 0), line("40", 1)]})
    row = {
        key: value for key, value in (line("40", 2) | (change if isinstance(change, dict) else {})).items() if value is not ...
    }
    if case == "a gold without a marker":
        row["gold_full_text"] = row["question"] + " no idea"
    with (folder / "eval_samples_step_40.jsonl").open("a") as file:
        file.write(change if isinstance(change, str) else json.dumps(row) + "\n")
    result = CliRunner().invoke(app, ["import-runs", str(folder), "--results", str(tmp_path / "results")])
    assert result.exit_code == 2
    assert re.search(message, said(result)), said(result)
    assert "Traceback" not in result.output
    assert not (tmp_path / "results").exists()


def test_other_directories_are_refused(made, tmp_path) -> None:
    empty = made({"40": []}, name="empty")
    with pytest.raises(ValueError, match="is empty: there is no evaluation in it"):
        read_run(empty, GSM8K())
    named = made({"best": run_of("best", {0})}, name="named")
    with pytest.raises(ValueError, match="must end in _step_<number>"):
        read_run(named, GSM8K())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no earlier run"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="is not a directory"):
        find_runs([tmp_path / "absent"])
    assert find_runs([tmp_path]) == [empty, named]


def test_an_unknown_benchmark_names_the_nearest(made) -> None:
    result = CliRunner().invoke(app, ["import-runs", str(made({"40": run_of("40", {0})})), "--on", "gsm8"])
    assert result.exit_code == 2
    assert "unknown benchmark 'gsm8'" in said(result)
    assert "did you mean 'gsm8k'?" in said(result)


@pytest.mark.skipif(not RECORDS.exists(), reason="no recorded run beside RAYBRIDGE_DATA")
def test_the_recorded_run(tmp_path) -> None:
    with tarfile.open(RECORDS) as archive:
        archive.extractall(tmp_path, filter="data")
    official = {problem.id: problem.question for problem in GSM8K().problems("test")}
    recorded = read_run(tmp_path / "phase1_all_fix", GSM8K(), official=official)
    assert len(recorded.evaluations) == 10
    assert recorded.evaluations[0].samples["problem"].str.startswith("gsm8k/test/").all()
    assert "--soft_tokens -1 was resolved to 2,048 soft tokens" in recorded.notes
    assert not any("train.log says" in note or "gold" in note for note in recorded.notes)
    run = write_run(recorded, Results(tmp_path / "results"), GSM8K())
    strict = run.evals().query("reading == 'strict'").set_index(["recorded_as", "arm"])
    bridged = strict.xs("bridged_with_text", level="arm")["accuracy"]
    assert bridged[["0", "250", "1500", "final"]].tolist() == [0.005, 0.520, 0.680, 0.645]
    assert strict.loc[("final", "source"), ["accuracy", "invalid", "n"]].tolist() == [0.54, 29, 200]
    assert strict.loc[("final", "target"), ["accuracy", "invalid", "n"]].tolist() == [0.77, 4, 200]
    assert (run.result()["peak_step"], run.result()["peak"], run.result()["final"]) == (1500, 0.68, 0.645)
    assert len(run.metrics()) == 100
    from_peak, from_target, from_source = findings(run, "gsm8k", recorded.bridge)
    assert [one.result.verdict for one in (from_peak, from_target, from_source)] == ["tie", "worse", "better"]
    assert "no degradation shown" in sentence(from_peak)
    last = Asked(run=run, arm=recorded.bridge, on="gsm8k")
    again = Asked(run=run, arm=recorded.bridge, on="gsm8k", step=2000)
    assert compare_readings(again, last)[0].result.verdict == "tie"  # the same weights, another draw of the sampler's noise
