"""Bundles taken into results: the figures are those of the original, and a hostile one ends in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from bundled import made_to_fit, rewritten, signed
from opened import everything, plain
from typer.testing import CliRunner

from plots import arms, main_results, training_curves
from raybridge.analysis.compare import Asked, compare_readings
from raybridge.config import kind_in
from raybridge.evaluate import app
from raybridge.evaluation.bundle.export import export
from raybridge.evaluation.earlier.bundles import read_bundle, write_imported
from raybridge.plots import Runs
from raybridge.results import Results
from raybridge.results.bundle import SUMS
from raybridge.results.find import lenders

TEST = "rows/pocket/test/step_000004.parquet"
FROZEN = "rows/pocket/test/step_000000.parquet"
OWN = ["fingerprint", "group", "imported", "identity", "label", "trial", "short"]  # what an imported trial has of its own


def imported(bundle: Path, results: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["import-runs", str(bundle), "--results", str(results)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def same(table: pd.DataFrame, other: pd.DataFrame, *by: str) -> None:
    """Whether two tables say the same but for whose they are."""
    keys = [name for name in by if name in table]
    parts = [one.drop(columns=OWN, errors="ignore") for one in (table, other)]
    left, right = (one.sort_values(keys, kind="stable", ignore_index=True) if keys else one for one in parts)
    left, right = (one.astype(object).where(one.notna(), None) for one in (left, right[list(left)]))  # None and NaN are missing
    pd.testing.assert_frame_equal(left, right)


def test_the_figures_of_an_imported_bundle_are_those_of_the_original(whole, run, tmp_path):
    """The tables that figures are made of: test scores with frozen arms, dev curves, gaps, metrics, peak and best step."""
    original = Runs(Results(run.root))
    code, said = imported(whole, tmp_path / "elsewhere")
    assert code == 0, said
    there = Runs(Results(tmp_path / "elsewhere"))
    assert there.left_out == {}
    (fingerprint,) = there.runs
    same(original.test, there.test, "evaluator", "arm", "reading")
    dev = [runs.evals.query("split == 'dev' and step > 0") for runs in (original, there)]
    same(*dev, "step", "arm", "reading")
    same(original.frozen("dev"), there.evals.query("split == 'dev' and step == 0"), "arm", "reading")
    assert original.gaps(run.fingerprint, "pocket") == there.gaps(fingerprint, "pocket")
    same(original.scores(run.fingerprint, "pocket"), there.scores(fingerprint, "pocket"), "arm", "problem")
    same(original.metrics, there.metrics, "step")
    results = [runs.trials[[name for name in runs.trials if name.startswith("result.")]] for runs in (original, there)]
    kept = [name for name in results[0] if name not in ("result.fingerprint", "result.name")]
    pd.testing.assert_frame_equal(results[0][kept], results[1][kept], check_dtype=False)
    for figure in (arms, main_results, training_curves):
        assert len(figure.table(original))
        same(figure.table(original), figure.table(there), "arm", "step", "reading")
    mine, theirs = (
        compare_readings(Asked(run=one, arm="bridged", on="pocket"), Asked(run=one, arm="shuffled", on="pocket"))
        for one in (run, there.runs[fingerprint])
    )
    assert [one.result for one in mine] == [one.result for one in theirs]


def test_the_arm_that_a_trial_was_trained_for_comes_with_its_bundle(bundle, tmp_path):
    edited(bundle / "result.json", arm="bridged_with_text")
    signed(bundle)
    write_imported(read_bundle(bundle), Results(tmp_path / "elsewhere"))
    assert Runs(Results(tmp_path / "elsewhere")).trials["judged_by"].tolist() == ["bridged_with_text"]
    edited(bundle / "result.json", arm="bridged_with_txt")
    signed(bundle)
    with pytest.raises(ValueError, match=r"unknown arm 'bridged_with_txt'.*did you mean 'bridged_with_text'"):
        read_bundle(bundle)


def test_what_another_trials_translator_answered_comes_with_a_bundle(bundle, tmp_path):
    rows = pd.read_parquet(bundle / FROZEN)
    rows.replace({"arm": {"cascade": "format_only"}}).to_parquet(bundle / FROZEN)
    made_to_fit(bundle)
    write_imported(read_bundle(bundle), Results(tmp_path / "elsewhere"))
    assert "format_only" in set(Runs(Results(tmp_path / "elsewhere")).test["arm"])


def test_an_imported_bundle_is_marked_and_lends_nothing_to_other_trials(whole, run, tmp_path):
    results = Results(tmp_path / "elsewhere")
    trial = write_imported(read_bundle(whole), results)
    before = everything(results.root)
    assert write_imported(read_bundle(whole), results).path == trial.path
    assert everything(results.root) == before
    assert [trial.config["bundle"], trial.provenance["imported"], trial.result()["imported"]] == [True] * 3
    assert trial.name == "tiny_imported"
    assert Runs(results).trials["group"].tolist() != Runs(Results(run.root)).trials["group"].tolist()
    assert trial.evals()["imported"].all()
    assert results.find(run.fingerprint) is None
    assert results.baselines() == []
    assert trial.checkpoints() == []
    done = CliRunner().invoke(app, [str(trial.path), "--problems", "2"])
    assert done.exit_code == 2
    assert "came with a bundle, which `evaluate verify` asks again" in " ".join(done.output.split())
    kind = kind_in(run.config["translator"])
    assert lenders(results.trials(), kind) == []
    assert len(lenders(Results(run.root).trials(), kind)) == 1


def test_an_imported_trial_is_not_exported_again(whole, tmp_path):
    trial = write_imported(read_bundle(whole), Results(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="was imported"):
        export(trial, tmp_path / "again")


def edited(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(plain(file) | changes))


def config(bundle: Path, **changes: object) -> None:
    """Change the config of a bundle, and its fingerprint with it."""
    from raybridge.results.bundle import fingerprint_told

    file = bundle / "trial.json"
    told = plain(file)
    told["config"] |= changes
    file.write_text(json.dumps(told | {"fingerprint": fingerprint_told(told)}))


def score_of_two(bundle):
    rewritten(bundle / TEST, "bridged", score_strict=2.0)


def huge_nll(bundle):
    rewritten(bundle / TEST, "bridged", nll=1e300)


def a_list_in_a_cell(bundle):
    rows = pd.read_parquet(bundle / TEST)
    rows["completion"] = [["run", "me"]] * len(rows)
    rows.to_parquet(bundle / TEST)


def a_column_of_its_own(bundle):
    pd.read_parquet(bundle / TEST).assign(run_me="import os").to_parquet(bundle / TEST)


def numbers_for_text(bundle):
    pd.read_parquet(bundle / TEST).assign(completion=7).to_parquet(bundle / TEST)


def a_row_twice(bundle):
    rows = pd.read_parquet(bundle / TEST)
    pd.concat([rows, rows.head(1)]).to_parquet(bundle / TEST)


def nll_of_no_tokens(bundle):
    pd.read_parquet(bundle / TEST).drop(columns="nll_tokens").to_parquet(bundle / TEST)


def no_table(bundle):
    (bundle / TEST).write_bytes(b"PAR1 and nothing else")


def nested(bundle):
    (bundle / "result.json").write_text('{"peak": ' + "[" * 5000 + "]" * 5000 + "}")


def not_a_number(bundle):
    (bundle / "result.json").write_text('{"peak": NaN}')


def too_many_digits(bundle):
    (bundle / "result.json").write_text('{"peak": 1' + "0" * 6000 + "}")


HOSTILE = [
    (score_of_two, "score_strict is 2; a score lies in 0..1"),
    (huge_nll, "nll holds a number that is none or beyond all measure"),
    (a_list_in_a_cell, "column 'completion' holds list"),
    (a_column_of_its_own, "unknown column 'run_me'"),
    (numbers_for_text, "completion must be text, not '7'"),
    (a_row_twice, "was answered twice by"),
    (nll_of_no_tokens, "a column 'nll' and none of its 'nll_tokens'"),
    (no_table, "is not a parquet table"),
    (nested, "result.json"),
    (not_a_number, "nan is no number of a record"),
    (too_many_digits, "result.json"),
    (lambda bundle: edited(bundle / "result.json", peak="high"), "peak must be int or float, not 'high'"),
    (lambda bundle: edited(bundle / "provenance.json", commit=["abc"]), "commit must be an object"),
    (lambda bundle: edited(bundle / "trial.json", name="../../x"), "'../../x' is no directory's name"),
    (lambda bundle: edited(bundle / "trial.json", name="$(reboot)"), "'$(reboot)' is no name of a trial"),
    (lambda bundle: edited(bundle / "trial.json", fingerprint="../x"), "fingerprint is no SHA-256 in hex"),
    (lambda bundle: config(bundle, steps=9.5), "steps must be int, not '9.5'"),
    (lambda bundle: config(bundle, losses=["os:system"]), "'os:system' is no config that names its class"),
    (lambda bundle: config(bundle, translator={"class": "a:B", "soft_tokens": "8"}), "soft_tokens must be int"),
    (lambda bundle: (bundle / "metrics.jsonl").write_text('{"step": "one"}\n'), "a logged step is numbers by name"),
]


@pytest.mark.parametrize(("harm", "says"), HOSTILE, ids=[says[:40] for _, says in HOSTILE])
def test_a_hostile_bundle_ends_in_a_sentence_and_writes_nothing(bundle, tmp_path, harm, says):
    harm(bundle)
    signed(bundle)
    before = everything(tmp_path)
    code, said = imported(bundle, tmp_path / "results")
    assert code == 2
    assert says in said
    assert "Traceback" not in said
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["../../evil.parquet", "/etc/passwd", "rows/../../x", "rows/pocket/dev/x.pkl", "rows/a b/dev"])
def test_names_that_lead_out_of_a_bundle_are_refused(bundle, tmp_path, name):
    sums = bundle / SUMS
    sums.write_text(f"{'0' * 64}  {name}\n" + sums.read_text())
    code, said = imported(bundle, tmp_path / "results")
    assert code == 2
    assert "SHA256SUMS, line 1: " in said
    assert "is no digest and file of a bundle" in said
    assert not (tmp_path / "results").exists()


def test_links_and_pipes_are_refused_and_not_followed(bundle, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (bundle / "metrics.jsonl").unlink()
    (bundle / "metrics.jsonl").symlink_to(secret)
    assert "metrics.jsonl is no plain file" in imported(bundle, tmp_path / "results")[1]
    (bundle / "metrics.jsonl").unlink()
    os.mkfifo(bundle / "metrics.jsonl")
    assert "metrics.jsonl is no plain file" in imported(bundle, tmp_path / "results")[1]


def test_a_damaged_bundle_is_refused_and_the_file_is_named(bundle, tmp_path):
    rewritten(bundle / FROZEN, "target", score_strict=1.0)
    code, said = imported(bundle, tmp_path / "results")
    assert code == 2
    assert f"{FROZEN} is not what was written" in said
    assert not (tmp_path / "results").exists()
