"""Whatever was tampered with in a bundle is found and named: by its digest, or, where digests were made to fit, by the rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from bundled import edited, made_to_fit, rewritten, signed
from safetensors.torch import load_file, save_file

from raybridge.evaluation.bundle.verify import verify

DEV, TEST = "rows/pocket/dev/step_000004.parquet", "rows/pocket/test/step_000004.parquet"


def differs(bundle: Path, problems: int = 0) -> list[str]:
    return verify(bundle, problems=problems, device="cpu").differs


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
    made_to_fit(bundle)
    (said,) = differs(bundle, problems=4)
    assert f"on {problem}: nll {kept:.6g} where the bundle has {kept * 1.01:.6g}" in said


def test_tampered_weights_are_found_by_the_rows(bundle):
    file = bundle / "translator.safetensors"
    weights = load_file(file)
    save_file({name: one.flip(-1).contiguous() for name, one in weights.items()}, file)
    signed(bundle)
    told = differs(bundle, problems=2)
    assert told
    assert all(said.startswith(("bridged", "shuffled")) for said in told)


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
        (
            "bundle.json",
            ("golds", "pocket/test"),
            500_000,
            "bundle.json tells 500000 different golds of pocket (test), which has 4",
        ),
        ("bundle.json", ("golds",), {}, "bundle.json tells None different golds of pocket"),
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


def test_rows_that_no_table_can_be_made_of_are_said(bundle):
    pd.read_parquet(bundle / TEST).assign(soft_tokens=0).to_parquet(bundle / TEST)
    signed(bundle)
    assert any(said.startswith("tables: cannot be made of the rows (ZeroDivisionError") for said in differs(bundle))
