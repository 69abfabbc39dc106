"""Trials compared, found and summarised by the command."""

import json
import re
from pathlib import Path

import pytest
import synthetic
from earlier import run_of, said
from typer.testing import CliRunner

from raybridge.analysis.compare import Asked, Compared, Side, compare_readings, sentence
from raybridge.evaluate import app
from raybridge.results import Results
from raybridge.statistics import compare


@pytest.fixture
def two(made, tmp_path) -> Path:
    """Results with two imported runs: `better` on problems 0..19, `worse` on 5..24 of which 15 are shared."""
    results = tmp_path / "results"
    better = run_of("40", set(range(18)), count=20)
    worse = [row for row in run_of("40", {5, 6}, count=25) if row["index"] >= 5]
    folders = [made({"40": better}, name="better"), made({"40": worse}, name="worse")]
    result = CliRunner().invoke(app, ["import-runs", *map(str, folders), "--results", str(results)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return results


def test_trials_on_different_problems_are_refused_and_can_be_compared_on_the_shared(two) -> None:
    args = ["compare", "better", "worse", "--on", "gsm8k", "--results", str(two)]
    refused = CliRunner().invoke(app, args)
    assert refused.exit_code == 2
    assert "different problems: 20 and 20, of which 15 are shared; --shared compares on those" in said(refused)
    shared = CliRunner().invoke(app, [*args, "--shared", "--json"], catch_exceptions=False)
    strict, flexible = json.loads(shared.output)
    assert (strict["a"]["reading"], flexible["a"]["reading"]) == ("strict", "flexible")
    assert (strict["result"]["n"], strict["result"]["wins"], strict["result"]["losses"]) == (15, 11, 0)
    assert strict["result"]["difference"] == pytest.approx(strict["a"]["accuracy"] - strict["b"]["accuracy"])
    assert strict["result"]["verdict"] == "better"
    assert strict["result"]["p"] == pytest.approx(2 * 2 / 2**11)  # exact, Holm over two readings


def test_arms_of_one_trial_are_compared(two) -> None:
    args = ["compare", "better", "better", "--on", "gsm8k", "--results", str(two), "--arm", "bridged", "--arm-b", "source"]
    told = said(CliRunner().invoke(app, args, catch_exceptions=False))
    assert "A (bridged) against B (source) at step 40, strict: 0.900 against 0.000" in told
    assert "18 won and 0 lost of 20" in told
    assert "better" in told


def test_the_first_trial_that_is_typed_is_told_against_the_second(two) -> None:
    args = ["--on", "gsm8k", "--results", str(two), "--shared"]
    told = [said(CliRunner().invoke(app, ["compare", *pair, *args])) for pair in (("better", "worse"), ("worse", "better"))]
    assert re.match(r"A \(better-\w+\) against B \(worse-\w+\), strict: 0.867 against 0.133, difference \+0.733", told[0])
    assert re.match(r"A \(worse-\w+\) against B \(better-\w+\), strict: 0.133 against 0.867, difference -0.733", told[1])
    assert "the difference is A minus B" in said(CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "200"}))


def side(step: int, accuracy: float) -> Side:
    return Side(trial="t", arm="bridged", step=step, reading="strict", accuracy=accuracy)


@pytest.mark.parametrize(("a", "b"), [(side(20, 0.9), side(40, 0.5)), (side(40, 0.5), side(20, 0.9))])
def test_a_degradation_is_what_the_later_step_lost_whichever_is_typed_first(a, b) -> None:
    better = a.accuracy > b.accuracy
    scores = [[0.0] * 20, [1.0] * 20]
    result = compare(*scores) if better else compare(*scores[::-1])
    assert result.verdict == ("better" if better else "worse")
    assert ", a degradation" in sentence(Compared(a=a, b=b, result=result))


def test_two_trials_without_a_band_are_two_checkpoints_and_no_ranking(tmp_path) -> None:
    a, b, *others = [synthetic.trial(tmp_path, f"t_s{seed}", seed=seed, points=2, n=40, level=seed / 2) for seed in (1, 2, 3)]
    other = synthetic.trial(tmp_path, "other", points=2, n=40, steps=500)
    sides = [Asked(run=run, arm="bridged", on="pocket") for run in (other, a)]
    synthetic.sweep(tmp_path, "replicates", [a, b])
    said = sentence(compare_readings(*sides)[0])
    assert "; of two checkpoints, no ranking (no A/A band: `replicates` has fewer than three seeds of these models)" in said
    synthetic.sweep(tmp_path, "replicates", [a, b, *others])
    assert "no ranking" not in sentence(compare_readings(*sides)[0])
    assert "side the A/A band of " in sentence(compare_readings(*sides)[0])
    elsewhere = synthetic.trial(tmp_path, "elsewhere", points=2, n=40, target="another")
    apart = Asked(run=elsewhere, arm="bridged", on="pocket"), sides[1]
    assert "no ranking" in sentence(compare_readings(*apart)[0])  # the band is of other models


def test_two_evaluations_of_one_trial_were_picked_among_all_of_them(tmp_path) -> None:
    run = synthetic.trial(tmp_path, "t", points=10, n=200, stopped=True)
    early, late = (Asked(run=run, arm="bridged", on="pocket", split="dev", step=step) for step in (100, 500))
    one = compare_readings(late, early)[0]
    scores = [side.scores()[1]["strict"] for side in (early, late)]
    assert one.result.p == pytest.approx(min(1.0, 2 * 28 * compare(*scores).p))  # Holm over two readings, pairs of eight steps
    assert "corrected for the evaluations that both were picked among" in sentence(one)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bettr", "worse"], "unknown trial 'bettr'; valid: .* did you mean 'better"),
        (["better", "worse", "--arm", "bridge"], "unknown arm 'bridge'; valid: .* did you mean 'bridged'"),
        (["better", "worse", "--split", "dev"], r"was not evaluated on gsm8k, split dev; it was on test \(--split\)"),
        (["better", "worse", "--step-a", "7"], "was not evaluated at step 7; valid: 40"),
        (["better", "worse", "--on", "svamp"], r"was not evaluated on svamp, split test; it was on gsm8k \(test\)"),
        (["better", "worse", "--on", "gsm8"], "unknown benchmark 'gsm8'; valid: .*; did you mean 'gsm8k'"),
        (["better", "better"], r"better-\w+ \(bridged\) at step 40 on both sides; --arm-b, --step-a or --step-b"),
    ],
)
def test_bad_comparisons_are_one_sentence(two, args: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["compare", "--on", "gsm8k", *args, "--results", str(two)])
    assert result.exit_code == 2
    assert re.search(message, said(result)), said(result)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compar", "better", "worse"], "unknown command 'compar'; valid: .*; did you mean 'compare'"),
        (["compar", "better", "worse", "--arm", "bridged"], "unknown command 'compar'; .* did you mean 'compare'"),
        (["compar", "--on", "gsm8k", "better", "worse"], "unknown command 'compar'; .* did you mean 'compare'"),
        (["--on=gsm8k", "better", "worse"], "Got unexpected extra argument"),
        (["sumarize", "better"], "unknown command 'sumarize'; .* did you mean 'summarize'"),
        (["import-run", "better"], "unknown command 'import-run'; .* did you mean 'import-runs'"),
        (["better", "worse"], "unknown command 'better'; valid: trial, compare, summarize, .*, one trial alone"),
        (["better", "--onn", "gsm8k"], "No such option: --onn .*--on"),
        (["summarize", "better", "--on", "gsm8"], "unknown benchmark 'gsm8'; .* did you mean 'gsm8k'"),
    ],
)
def test_a_mistyped_word_of_a_call_gets_its_nearest(args: list[str], message: str) -> None:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert re.search(message, said(result)), said(result)


@pytest.mark.parametrize("command", ["compare", "summarize", "import-runs"])
def test_a_mistyped_command_without_a_word_behind_it_is_not_only_a_trial(two, command: str) -> None:
    result = CliRunner().invoke(app, [command[:-1], "--results", str(two)])
    assert result.exit_code == 2
    assert re.search(f"unknown trial or command '{command[:-1]}'; valid: .*; did you mean '{command}'", said(result))


def test_a_trial_is_found_by_its_directory_and_its_fingerprint(two) -> None:
    (run,) = [run for run in Results(two).trials() if run.name == "better"]
    for named in (str(run.path), run.fingerprint[:8], run.path.name):
        args = ["compare", named, named, "--arm-b", "source", "--on", "gsm8k", "--results", str(two), "--json"]
        told = json.loads(CliRunner().invoke(app, args, catch_exceptions=False).output)
        assert told[0]["a"]["trial"] == told[0]["b"]["trial"] == run.path.name


def test_summarize_counts_and_shows_examples(two, made) -> None:
    trial = str(Results(two).trials()[0].path)
    told = json.loads(CliRunner().invoke(app, ["summarize", trial, "--json"], catch_exceptions=False).output)
    (row,) = [row for row in told["rows"] if (row["arm"], row["reading"]) == ("bridged", "strict")]
    assert [row[name] for name in ("n", "valid", "invalid", "truncated", "correct")] == [20, 20, 0, None, 18]
    assert {(one["arm"], one["kind"]) for one in told["examples"]} == {
        ("source", "wrong"),
        ("target", "correct"),
        ("bridged", "correct"),
        ("bridged", "wrong"),
    }
    plain = CliRunner().invoke(app, ["summarize", str(made({"40": run_of("40", {0})}, name="raw"))], catch_exceptions=False)
    assert "0.125 [" in plain.output
    for folder in (two, two / "trials"):
        of_all = json.loads(CliRunner().invoke(app, ["summarize", str(folder), "--json"], catch_exceptions=False).output)
        assert {one["of"] for one in of_all["rows"]} == {path.name for path in (two / "trials").iterdir()}
    refused = CliRunner().invoke(app, ["summarize", str(two / "absent")])
    assert refused.exit_code == 2
    assert "is no trial's directory" in said(refused)
