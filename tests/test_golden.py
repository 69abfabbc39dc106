"""What must stay as it is while the code moves: identities, keys of frozen arms, columns on disk, keys of printed JSON.

A change of one of the files in golden/ changes what is reused from earlier results, or what others read; it stands in the
CHANGELOG with its reason.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from local_runs import run_trial
from quick import quick_start, short_answers, short_timings
from typer.testing import CliRunner

from raybridge import HOUSE, arms
from raybridge.analysis.summary import write_summary
from raybridge.evaluate import app
from raybridge.evaluation.identity import sealed
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import setting_of
from raybridge.models.hardening import Hardening
from raybridge.results import Results
from raybridge.results.baselines import identity_in, key_of
from raybridge.results.contents import BenchmarkContents, Contents, ModelContents
from raybridge.results.files import CHECKSUM
from raybridge.results.launch import Timing
from raybridge.scales import POCKET, SCALES
from raybridge.sweep_file import load

GOLDEN = Path(__file__).parent / "golden"
HARD = Hardening(top_p=0.9, ban_end=2, repetition_penalty=1.2, anchor="So", bos=True)
MODEL = ModelContents(weights="w", tokenizer="t", template="c")
BENCHMARK = BenchmarkContents(
    readings=("strict",),
    **dict(instruction="i", before="b", after="a", stop=("s",), max_new_tokens=8, exemplars="e"),
    **dict(source_prompt="p", target_prompt="q", train="1", dev="2", test="3"),
)
CONTENTS = Contents(
    source=MODEL,
    target=replace(MODEL, weights="v"),
    benchmark=BENCHMARK,
    **dict(device="cpu", precision="float32", answering=1),
)
HARDENED_BEFORE = {
    "class": "raybridge.hardening:Hardening",
    **dict(top_p=0.9, temperature=0.7, seed=0, ban_end=2, repetition_penalty=1.2, anchor="So", bos=True),
}
HAS_DATA = bool(os.environ.get("RAYBRIDGE_DATA"))


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf8"))


def fingerprints() -> dict:
    """Every trial of every sweep at every scale that it has axes for, as if all of them read the same."""
    sweeps = [load(path) for path in sorted((HOUSE / "sweeps").glob("*.py")) if path.name != "__init__.py"]
    return {
        sweep.name: {
            scale.name: {trial.name: replace(trial, contents=CONTENTS).fingerprint for trial in sweep.trials(scale)}
            for scale in SCALES
            if scale.name in sweep.axes
        }
        for sweep in sweeps
    }


def baseline_keys(scale) -> dict:
    """Keys of the frozen arms of a scale's base trial, plain and with hardened decoding."""
    keys = {}
    for split in ("dev", "test"):
        setting = setting_of(replace(scale.trial, dev_problems=20, test_problems=20, contents=CONTENTS), split)
        for told, one in (("plain", setting), ("hardened", replace(setting, hardening=HARD))):
            for arm in arms.every():
                if arm.frozen:
                    keys[f"{split}/{told}/{arm.name}"] = one.key(arm)
    return keys


def test_fingerprints():
    assert fingerprints() == golden("fingerprints")


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_baseline_keys(scale):
    if scale is not POCKET and not HAS_DATA:
        pytest.skip("RAYBRIDGE_DATA is not set")
    assert baseline_keys(scale) == golden("baseline_keys")[scale.name]


def test_contents_of_the_pocket_trial():
    assert sealed(POCKET.trial, device="cpu").resolved()["contents"] == golden("contents")


@pytest.mark.parametrize(
    ("decoding", "key"),
    [(None, "source-pocket-dev-caf83cf222cd06e4"), (HARDENED_BEFORE, "source-pocket-dev-4000ddfb8b524f0a")],
)
def test_rows_of_an_earlier_identity_are_found_where_they_were_kept(decoding, key):
    evaluator = {"class": "evaluators.pocket:Pocket", "VERSION": 2, "train": 20_000, "dev": 400, "test": 400}
    models = {"source": "pocket:source", "target": "pocket:target"}
    config = {**models, "translator": {"soft_tokens": 32}, "evaluator": evaluator}
    ids = setting_of(replace(POCKET.trial, dev_problems=20), "dev").ids
    identity = identity_in(arms.find("source"), config, None, "dev", decoding)
    assert key_of(identity, "pocket", "dev", ids) == key


def shape(value: object, deep: int = 2) -> object:
    """The keys of JSON, to a depth; of a list those of its first entry."""
    if isinstance(value, dict) and deep:
        return {key: shape(part, deep - 1) for key, part in sorted(value.items())}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [shape(value[0], deep)]
    return None


def anonymous(path: Path) -> str:
    """A file's place with what differs from run to run left out."""
    name = re.sub(r"-[0-9a-f]{8}/", "-FINGERPRINT/", path.as_posix())
    name = re.sub(r"step_\d+", "step_N", name)
    name = re.sub(r"logs/\d+-\d+-(\w+)-\d+\.log", r"logs/WHEN-\1-PROCESS.log", name)
    return re.sub(r"baselines/(\w+)-.*\.parquet", r"baselines/\1-KEY.parquet", name)


def columns(root: Path) -> dict:
    """Columns or keys of every file of a results folder."""
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = anonymous(path.relative_to(root))
        if path.suffix == ".parquet":
            found[name] = sorted(pd.read_parquet(path).columns)
        elif path.suffix == ".jsonl":
            found[name] = sorted({key for line in path.read_text().splitlines() for key in json.loads(line)} - {CHECKSUM})
        elif path.suffix == ".json":
            told = {key: value for key, value in json.loads(path.read_text()).items() if key != CHECKSUM}
            found[name] = shape(told, deep=4 if path.name == "result.json" else 2)
        else:
            found[name] = None
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A sweep of one tiny trial, evaluated with every arm, and what the commands print of it as JSON."""
    with short_answers(), short_timings(), quick_start():
        return launched_and_asked(tmp_path_factory.mktemp("golden"))


def launched_and_asked(root: Path) -> tuple[Results, dict]:
    results = Results(root / "ray_results")
    trial = replace(
        POCKET.trial,
        name="tiny",
        translator=replace(POCKET.trial.translator, soft_tokens=8, width=64, depth=2, heads=2),
        **dict(steps=4, warmup=2, batch=8, eval_every=2, dev_problems=4, test_problems=4),
    )
    trial = sealed(trial, device="cpu")
    _, run = run_trial(trial, results, Models("cpu"))
    run.launch.write_timing(Timing(started=1.0, first_step=2.0, ended=3.0))
    folder = results.sweep("one")
    folder.write_plan({"scale": "pocket", "trials": [{"name": trial.name, "fingerprint": trial.fingerprint}]})
    printed = {
        "evaluate": ["trial", run.path, "--problems", "4", "--timed", "1"],
        "evaluate, models": [
            "--source",
            "pocket:source",
            "--target",
            "pocket:target",
            "--on",
            "pocket",
            "--problems",
            "4",
            "--timed",
            "1",
        ],
        "compare": ["compare", run.path, run.path, "--on", "pocket", "--arm-b", "shuffled"],
        "summarize": ["summarize", run.path, "--on", "pocket"],
    }
    told = {}
    for name, words in printed.items():
        place = [] if name == "summarize" else ["--results", results.root]
        result = CliRunner().invoke(app, [str(word) for word in (*words, "--json", *place)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        told[name] = shape(json.loads(result.output.splitlines()[-1]), deep=3)
    write_summary({trial.fingerprint: trial.name}, sweep="one", question="Does it run?", results=results, why={})
    return results, told


def test_columns_of_every_file(house):
    results, _ = house
    assert columns(results.root) == golden("columns")


def test_keys_of_printed_json(house):
    _, told = house
    assert told == golden("json_keys")
