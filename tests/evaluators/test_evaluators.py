"""What holds of every evaluator, and of the real files where they are."""

import json
import os
import re
from pathlib import Path

import pytest
from graded import problem

from evaluators.gsm8k import GSM8K
from evaluators.hotpotqa import HotpotQA
from evaluators.math import Math500
from evaluators.squad import Squad
from evaluators.svamp import Svamp
from raybridge.config import fingerprint, rebuild, resolve

DATA = Path(os.environ.get("RAYBRIDGE_DATA", "absent"))
ALL = [GSM8K(), Math500(), Squad(), HotpotQA(), HotpotQA(setting="fullwiki"), Svamp()]


@pytest.mark.parametrize("evaluator", ALL, ids=lambda evaluator: evaluator.name)
def test_an_evaluator_is_a_config_that_says_what_it_is(evaluator) -> None:
    assert rebuild(resolve(evaluator)) == evaluator
    assert resolve(evaluator)["VERSION"] == evaluator.VERSION
    assert len({fingerprint(one) for one in ALL}) == len(ALL)


@pytest.mark.parametrize("evaluator", ALL, ids=lambda evaluator: evaluator.name)
@pytest.mark.parametrize("completion", ["", " ", "\n\n"])
def test_an_empty_completion_is_invalid_and_wrong_in_every_reading(evaluator, completion: str) -> None:
    assert evaluator.read(completion) == dict.fromkeys(evaluator.readings)
    scores = evaluator.grade(problem("7"), completion)
    assert set(scores) == set(evaluator.readings)
    assert not any(scores.values())


@pytest.mark.parametrize("evaluator", ALL, ids=lambda evaluator: evaluator.name)
def test_an_unknown_split_is_refused(evaluator) -> None:
    with pytest.raises(ValueError, match=f"{evaluator.name} has no split 'validation'; valid: "):
        evaluator.problems("validation")


@pytest.mark.parametrize("evaluator", [Math500(), Svamp()], ids=lambda evaluator: evaluator.name)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_benchmark_without_a_train_split_says_so(evaluator, split: str) -> None:
    with pytest.raises(ValueError, match=rf"has no split '{split}'; valid: test \(.*train on another benchmark"):
        evaluator.problems(split)


FILES = {
    "math500/test.jsonl": Math500(),
    "squad/dev-v1.1.json": Squad(),
    "hotpotqa/gold_present_100.jsonl": HotpotQA(),
    "hotpotqa/fullwiki_500.jsonl": HotpotQA(setting="fullwiki"),
    "svamp/SVAMP.json": Svamp(),
}


@pytest.mark.parametrize("file", FILES)
def test_a_broken_file_is_named(data, file: str) -> None:
    data(file, '{"broken": \n')
    with pytest.raises(ValueError, match=rf"{re.escape(file)}.*not JSON"):
        FILES[file].problems("test")


@pytest.mark.parametrize("file", FILES)
def test_a_row_without_its_fields_is_named(data, file: str) -> None:
    nested = {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1"}]}]}]}
    data(file, json.dumps(nested if "squad" in file else [{"x": 1}] if file.endswith(".json") else {"x": 1}) + "\n")
    with pytest.raises(ValueError, match=rf"{re.escape(file)}, (line 1|row 0): no field"):
        FILES[file].problems("test")


SHIPPED = [(Math500(), 500), (Squad(), 10_570), (HotpotQA(), 100), (HotpotQA(setting="fullwiki"), 500), (Svamp(), 1000)]


@pytest.mark.skipif(not (DATA / "squad").exists(), reason="RAYBRIDGE_DATA has no benchmarks")
@pytest.mark.parametrize(("evaluator", "count"), SHIPPED, ids=[f"{e.name}-{n}" for e, n in SHIPPED])
def test_the_real_rows_grade_their_own_answers_as_right(evaluator, count: int) -> None:
    problems = evaluator.problems("test")
    assert len(problems) == count
    assert all(all(evaluator.grade(one, one.rationale).values()) for one in problems)
