"""A bundle: what is written, what is verified of it, and that whatever was tampered with is named."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from bundled import ARMS, finished, rewritten, signed, small
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from evaluators.pocket import Pocket
from raybridge.analysis.scorecard import tables
from raybridge.arms import find
from raybridge.evaluate import app
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.bundle.export import export
from raybridge.evaluation.bundle.tables import _cells
from raybridge.evaluation.bundle.verify import verify
from raybridge.evaluation.card import evaluate
from raybridge.evaluation.models import Models
from raybridge.evaluation.trained import of_trial
from raybridge.results import Results
from raybridge.results.bundle import Bundle, fingerprint_told
from raybridge.results.bundle_rows import SAMPLES

DEV, TEST = "rows/pocket/dev/step_000004.parquet", "rows/pocket/test/step_000004.parquet"


@pytest.fixture(scope="module", autouse=True)
def short():
    """Answers of 20 tokens: what they say is of no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pocket, "max_new_tokens", 20)
        yield


@pytest.fixture(scope="module")
def trial(short):
    return small()


@pytest.fixture(scope="module")
def run(trial, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("results") / "ray_results", trial)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    """The bundle as it was exported; nobody writes into it."""
    path = tmp_path_factory.mktemp("whole") / "bundle"
    assert export(run, path) == []
    return path


@pytest.fixture
def bundle(whole, tmp_path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def differs(bundle: Path, problems: int = 0) -> list[str]:
    return verify(bundle, problems=problems, device="cpu").differs


def call(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def test_what_was_exported_is_verified_and_every_arm_is_computed_again(whole):
    found = verify(whole, problems=2, device="cpu")
    assert found.differs == []
    again = {said.partition(":")[0] for said in found.checked if "2 of 2 completions are equal" in said}
    assert again == {f"{arm} on pocket ({split})" for split, arms in ARMS.items() for arm in arms}
    assert any(said.startswith("rows of step 8") for said in found.unchecked)


def test_a_bundle_holds_the_rows_of_every_arm_and_no_questions(whole, run, trial):
    bundle = Bundle(whole)
    rows = [bundle.rows(place) for place in bundle.places]
    for split, arms in ARMS.items():
        mine = [rows for place, rows in zip(bundle.places, rows, strict=True) if place.split == split]
        assert {arm for part in mine for arm in part["arm"]} == set(arms)
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


def test_the_fingerprint_that_a_record_tells_is_that_of_the_trial(trial, whole):
    assert fingerprint_told(json.loads((whole / "trial.json").read_text())) == trial.fingerprint


@pytest.mark.parametrize(
    "name", [TEST, "tables/pocket/test/answers.csv", "translator.safetensors", "trial.json", "metrics.jsonl", "README.md"]
)
def test_a_file_that_is_not_what_was_written_is_named(bundle, name):
    file = bundle / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert any(said.startswith(f"{name} is not what was written") for said in differs(bundle))


def test_a_file_that_is_missing_or_too_many_is_named(bundle):
    (bundle / TEST).unlink()
    (bundle / "rows/run_me.py").write_text("print()")
    told = differs(bundle)
    assert f"{TEST} is missing" in told
    assert "rows/run_me.py is not told in SHA256SUMS" in told


def test_a_tampered_score_is_found_by_its_completion_and_by_the_tables(bundle):
    kept = pd.read_parquet(bundle / TEST).query("arm == 'bridged'")["score_strict"].iloc[0]
    problem = rewritten(bundle / TEST, "bridged", score_strict=1.0 - kept)
    signed(bundle)
    told = differs(bundle)
    assert f"{TEST}: bridged on {problem}: score_strict is {1 - kept:g}, and its completion scores {kept:g}" in told
    assert any(said.startswith("tables/evals.csv, line ") for said in told)
    assert any(said.startswith("result.json: accuracy of bridged (strict) on test is ") for said in told)


def test_a_tampered_completion_is_found_by_its_answer_and_by_the_models(bundle):
    frozen = "rows/pocket/test/step_000000.parquet"
    problem = rewritten(bundle / frozen, "target", completion="It is\n#### 987654")
    signed(bundle)
    told = differs(bundle)
    assert any(said.startswith(f"{frozen}: target on {problem}: answer_strict is ") for said in told)
    same = rewritten(bundle / frozen, "target", answer_strict="987654", answer_flexible="987654")
    assert same == problem
    signed(bundle)
    again = [said for said in differs(bundle, problems=4) if "completions are equal" in said]
    assert any(said.startswith("target on pocket (test): 3 of 4 completions are equal; the first") for said in again)
    assert any(problem in said for said in again)


def test_a_tampered_nll_is_found_by_the_models(bundle):
    kept = float(pd.read_parquet(bundle / DEV).query("arm == 'shuffled'")["nll"].iloc[0])
    problem = rewritten(bundle / DEV, "shuffled", nll=kept * 1.01)
    export_again(bundle)
    (said,) = differs(bundle, problems=4)
    assert f"on {problem}: nll {kept:.6g} where the bundle has {kept * 1.01:.6g}" in said


def export_again(bundle: Path) -> None:
    """Make tables and checksums fit the rows, as who is thorough would."""
    from raybridge.evaluation.bundle.export import title_of
    from raybridge.evaluation.bundle.tables import tables_of

    signed(bundle)
    here = Bundle(bundle)
    made = tables_of(
        {place: here.rows(place) for place in here.places},
        best=here.facts["step"],
        title=title_of(here.name, here.facts["step"]),
        golds=here.facts["golds"],
    )
    for name, content in made.items():
        (bundle / name).write_bytes(content)
    signed(bundle)


def test_tampered_weights_are_found_by_the_rows(bundle):
    file = bundle / "translator.safetensors"
    weights = load_file(file)
    save_file({name: one.flip(-1).contiguous() for name, one in weights.items()}, file)
    signed(bundle)
    told = differs(bundle, problems=2)
    assert told
    assert all(said.startswith(("bridged", "shuffled")) for said in told)


def edited(file: Path, *path: str, value: object) -> None:
    """Change a value of a JSON file."""
    told = json.loads(file.read_text())
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    file.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("trial.json", ("config", "steps"), 9, "trial.json: config and contents are those of"),
        ("trial.json", ("contents", "source", "weights"), "0" * 64, "trial.json: config and contents are those of"),
        ("trial.json", ("config", "steps"), 10**400, "is no number of a record"),
        ("trial.json", ("config",), [], "config must be an object"),
        ("trial.json", ("name",), "../../elsewhere", "is no directory's name"),
        ("result.json", ("peak",), 0.99, "result.json: peak is 0.99, and the rows of step 4 give "),
        ("result.json", ("test", "bridged", "strict", "n"), 400, "result.json: n of bridged (strict) on test is 400"),
        ("result.json", ("test",), 3, "test must be objects"),
        ("result.json", ("best_step",), 8, "result.json: best_step is 8, and bundle.json says 4"),
        ("bundle.json", ("golds", "pocket/test"), "many", "step and golds must be whole numbers"),
        ("bundle.json", ("layout",), 2, "layout is 2; this raybridge reads 1"),
        ("bundle.json", ("step",), 10**30, "is no number of a record"),
    ],
)
def test_a_tampered_record_is_named(bundle, name, path, value, says):
    edited(bundle / name, *path, value=value)
    signed(bundle)
    assert any(says in said for said in differs(bundle)), differs(bundle)


def test_a_tampered_table_is_named_with_what_the_rows_give(bundle):
    file = bundle / "tables/pocket/test/answers.csv"
    lines = file.read_text().splitlines()
    lines[1] = lines[1].replace("0.", "0.9", 1)
    file.write_text("\n".join(lines) + "\n")
    signed(bundle)
    (said,) = differs(bundle)
    assert said.startswith("tables/pocket/test/answers.csv, line 2: ")


def test_a_tampered_frame_is_named(bundle):
    (file,) = bundle.glob("frames/pocket/*.before.txt")
    file.write_text("Think hard. " + file.read_text())
    signed(bundle)
    assert any(said.startswith(f"frames/pocket/{file.name[:16]}: its texts are those of ") for said in differs(bundle))


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
    export_again(bundle)
    found = verify(bundle, problems=2, device="cpu")
    assert found.differs == []
    assert any("what is here is not what it was computed with: target's weights are others" in said for said in found.unchecked)


def test_a_config_of_another_version_is_said_and_statistics_are_checked_all_the_same(bundle):
    edited(bundle / "trial.json", "config", "evaluator", "VERSION", value=99)
    told = json.loads((bundle / "trial.json").read_text())
    edited(bundle / "trial.json", "fingerprint", value=fingerprint_told(told))
    export_again(bundle)
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
