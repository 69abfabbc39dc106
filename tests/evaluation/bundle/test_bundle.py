"""A bundle: what is written, what is verified of it, and that whatever was tampered with is named."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pytest
from bundled import ARMS, HARD, HARDENED, edited, made_to_fit, rewritten, signed
from typer.testing import CliRunner

from raybridge.analysis.scorecard import tables
from raybridge.arms import find
from raybridge.evaluate import app
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.bundle.export import export
from raybridge.evaluation.bundle.tables import _cells
from raybridge.evaluation.bundle.verify import verify
from raybridge.evaluation.card import evaluate
from raybridge.evaluation.models import Models
from raybridge.evaluation.trained import of_trial, trial_of
from raybridge.results import Results
from raybridge.results.bundle import Bundle, fingerprint_told
from raybridge.results.bundle_rows import SAMPLES

DEV, TEST = "rows/pocket/dev/step_000004.parquet", "rows/pocket/test/step_000004.parquet"


@pytest.fixture
def trial(run):
    return trial_of(run)


def call(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def labels(split: str) -> set[str]:
    """The arms that a bundle must have rows of."""
    return {*ARMS[split], *(f"{arm}{HARDENED.label}" for arm in HARD if split == "test")}


def test_what_was_exported_is_verified_and_every_arm_is_computed_again(whole):
    found = verify(whole, problems=2, device="cpu")
    assert found.differs == []
    again = {said.partition(":")[0] for said in found.checked if "2 of 2 completions are equal" in said}
    assert again == {f"{label} on pocket ({split})" for split in ARMS for label in labels(split)}
    assert any(said.startswith("rows of step 8") for said in found.unchecked)


def test_a_bundle_holds_the_rows_of_every_arm_and_no_questions(whole, run, trial):
    bundle = Bundle(whole)
    rows = [bundle.rows(place) for place in bundle.places]
    for split in ARMS:
        mine = [rows for place, rows in zip(bundle.places, rows, strict=True) if place.split == split]
        assert {arm for part in mine for arm in part["arm"]} == labels(split)
    assert all(SAMPLES.column(name) for part in rows for name in part)
    told = " ".join(str(value) for part in rows for value in part.drop(columns="completion").to_numpy().ravel())
    told += "".join(file.read_text() for file in whole.rglob("*") if file.suffix in (".md", ".json", ".csv", ".txt", ".jsonl"))
    assert not [one.id for split in ARMS for one in trial.evaluator.problems(split)[:400] if one.question in told]


def test_the_tables_of_a_bundle_are_those_that_evaluate_prints(whole, run):
    setting, trained = of_trial(run, evaluator=None, split="test", count=None)
    arms = [arm for name in ARMS["test"] for arm in [find(name)]]
    ordered = sorted(arms, key=lambda arm: (arm.order, arm.name))
    card = evaluate(setting, trained, Results(run.root), Local(Models("cpu")), ordered, timed=0)
    for name, printed in zip(("answers", "form", "cost"), tables(card), strict=True):
        with (whole / f"tables/pocket/test/{name}.csv").open(newline="") as file:
            heads, *lines = csv.reader(file)
        assert (heads, lines) == _cells(printed)
    markdown = (whole / "tables/pocket/test/tables.md").read_text()
    assert f"## {card.title}\n" in markdown
    assert all(note in markdown for note in card.notes)
    evals = pd.read_csv(whole / "tables/evals.csv").set_index(["split", "step", "arm", "reading"])
    for row in run.evals().to_dict("records"):
        assert evals.loc[(row["split"], row["step"], row["arm"], row["reading"]), "accuracy"] == row["accuracy"]


def test_the_readme_says_in_ten_lines_what_it_is_and_how_it_is_verified(whole):
    lines = (whole / "README.md").read_text().splitlines()
    assert len(lines) <= 12
    assert "    python -m raybridge.evaluate verify ." in lines
    assert "Apache License 2.0" in (whole / "LICENSES.md").read_text()


def test_no_pickle_and_nothing_else_than_the_layout_is_in_a_bundle(whole):
    assert {file.suffix for file in whole.rglob("*") if file.is_file()} <= {
        *("", ".md", ".json", ".jsonl", ".parquet", ".csv", ".txt", ".safetensors"),
    }


def test_without_weights_a_bundle_is_small_and_says_what_cannot_be_computed(run, tmp_path):
    export(run, tmp_path / "light", weights=False)
    assert sum(file.stat().st_size for file in (tmp_path / "light").rglob("*") if file.is_file()) < 4e6
    assert not list((tmp_path / "light").glob("*.safetensors"))
    found = verify(tmp_path / "light", problems=2, device="cpu")
    assert found.differs == []
    assert "arms of the translator: its weights are not in the bundle" in found.unchecked
    assert any(said.startswith("target on pocket (test): 2 of 2") for said in found.checked)


def test_without_frames_no_text_of_the_benchmark_is_in_it_and_rows_still_name_theirs(run, tmp_path):
    path = tmp_path / "bare"
    export(run, path, weights=False, frames=False)
    assert not (path / "frames").exists()
    assert "`frames/`" not in (path / "README.md").read_text() + (path / "LICENSES.md").read_text()
    found = verify(path, problems=2, device="cpu")
    assert found.differs == []
    assert any("bundle.json names them without their texts" in said for said in found.unchecked)
    edited(path / "bundle.json", "frames", value=[])
    signed(path)
    assert any("rows name a frame" in said for said in verify(path, problems=0, device="cpu").differs)


def test_the_fingerprint_that_a_record_tells_is_that_of_the_trial(trial, whole):
    assert fingerprint_told(json.loads((whole / "trial.json").read_text())) == trial.fingerprint


def test_models_that_are_not_here_are_said_and_are_no_difference(trial, bundle):
    for name in ("source", "target"):
        edited(bundle / "trial.json", "config", name, value=f"nobody/{name}-7B")
    signed(bundle)
    found = verify(bundle, problems=2, device="cpu")
    assert found.differs == []
    assert "a sample of the rows on pocket (test): model nobody/source-7B is not here" in found.unchecked


def test_other_models_under_the_same_names_are_not_held_against_a_bundle(bundle):
    edited(bundle / "trial.json", "contents", "target", "weights", value="0" * 64)
    told = json.loads((bundle / "trial.json").read_text())
    edited(bundle / "trial.json", "fingerprint", value=fingerprint_told(told))
    made_to_fit(bundle)
    found = verify(bundle, problems=2, device="cpu")
    assert found.differs == []
    assert any("what is here is not what it was computed with: target's weights are others" in said for said in found.unchecked)


def test_a_config_of_another_version_is_said_and_statistics_are_checked_all_the_same(bundle):
    edited(bundle / "trial.json", "config", "evaluator", "VERSION", value=99)
    told = json.loads((bundle / "trial.json").read_text())
    edited(bundle / "trial.json", "fingerprint", value=fingerprint_told(told))
    made_to_fit(bundle)
    found = verify(bundle, problems=2, device="cpu")
    assert found.differs == []
    assert any("recorded at version 99" in said for said in found.unchecked)
    assert any(said.endswith("tables are those of the rows") for said in found.checked)


def test_the_commands_export_and_verify(run, tmp_path, bundle):
    code, said = call("export", run.path, "--to", tmp_path / "new", "--without-weights")
    assert code == 0, said
    assert f"python -m raybridge.evaluate verify {tmp_path / 'new'}" in said
    code, said = call("verify", tmp_path / "new", "--problems", "0", "--device", "cpu")
    assert code == 0, said
    assert said.endswith("0 differ")
    rewritten(bundle / TEST, "bridged", score_strict=0.5)
    code, said = call("verify", bundle, "--problems", "0", "--device", "cpu")
    assert code == 1
    assert f"differs: {TEST} is not what was written" in said


def test_what_cannot_be_exported_is_refused(run, trial, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert call("export", run.path, "--to", full) == (
        2,
        f"error --to: {full} is there and not empty; name a folder that is new or empty",
    )
    assert [file.name for file in full.iterdir()] == ["mine.txt"]
    results = Results(tmp_path / "ray_results")
    old = results.open_trial(name="old", fingerprint="0" * 64, config={**trial.resolved(), "contents": None}, provenance={})
    code, said = call("export", old.path, "--to", tmp_path / "none")
    assert code == 2
    assert "has no result yet" in said
    assert not (tmp_path / "none").exists()
