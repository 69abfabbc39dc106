"""GSM8K: splits that do not overlap, and grading that agrees with the published rules item by item."""

import json
import math
import os
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.gsm8k import GSM8K
from evaluators.pocket import Pocket
from evaluators.svamp import Svamp
from raybridge.config import rebuild, resolve
from raybridge.data import Problem

DATA = Path(os.environ.get("RAYBRIDGE_DATA", "absent"))
RECORDS = DATA.parent / "latentwire" / "phase1_all_fix.tar.xz"

needs_data = pytest.mark.skipif(not (DATA / "gsm8k" / "train.jsonl").exists(), reason="RAYBRIDGE_DATA has no gsm8k")
needs_records = pytest.mark.skipif(not RECORDS.exists(), reason="no recorded run beside RAYBRIDGE_DATA")


def problem(gold: str) -> Problem:
    return Problem(id="made/0", question="How many?", gold=gold, rationale=f"So many.\n#### {gold}")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that writes made-up GSM8K files and points RAYBRIDGE_DATA at them."""

    def write(train: int = 30, test: int = 5, last: str | None = None) -> None:
        (tmp_path / "gsm8k").mkdir(exist_ok=True)
        for part, count in {"train": train, "test": test}.items():
            lines = [
                json.dumps(
                    {"question": f"Bo has {n} {part} nuts and buys 1. How many?", "answer": f"{n}+1={n + 1}\n#### {n + 1}"}
                )
                for n in range(count)
            ]
            lines += [last] if last else []
            (tmp_path / "gsm8k" / f"{part}.jsonl").write_text("".join(line + "\n" for line in lines))
        monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))

    return write


IGNORED = [",", r"\$", r"(?s).*#### ", r"\.$"]


def harness_extract(completion: str, pattern: str, group_select: int) -> str:
    found = re.compile(pattern).findall(completion)
    if not found:
        return "[invalid]"
    chosen = found[group_select]
    return next(part for part in chosen if part).strip() if isinstance(chosen, tuple) else chosen.strip()


def harness_strict(completion: str) -> str:
    return harness_extract(completion, r"#### (\-?[0-9\.\,]+)", 0)


def harness_flexible(completion: str) -> str:
    return harness_extract(completion, r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1)


def harness_plain(text: str) -> str:
    for ignored in IGNORED:
        text = re.sub(ignored, "", text)
    return text.lower()


def official(completion: str) -> str:
    found = re.compile(r"#### (\-?[0-9\.\,]+)").search(completion)
    return found.group(1).strip().replace(",", "") if found else "[invalid]"


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_agreement(completion: str, gold: str) -> None:
    """Extraction is the published one where a number; so is the score, but where equal numbers are written differently."""
    ours, scores = GSM8K().read(completion), GSM8K().grade(problem(gold), completion)
    for reading, theirs in {"strict": harness_strict(completion), "flexible": harness_flexible(completion)}.items():
        assert ours[reading] == (harness_plain(theirs) if is_number(harness_plain(theirs)) else None), (reading, completion)
        if harness_plain(theirs) == harness_plain(gold):
            assert scores[reading], (reading, completion)
        elif scores[reading]:
            assert float(harness_plain(theirs)) == float(harness_plain(gold)), (reading, completion)
    if ours["strict"] is None:
        assert not is_number(official(completion).removesuffix("."))
    else:
        assert ours["strict"] == official(completion).removesuffix(".")


EDGES = [
    # completion, gold, strict, flexible
    ("He earns 2*900=1800.\n#### 1,800", "1800", True, True),
    ("He earns $1,800.", "1800", False, True),
    ("#### $1,800.", "1800", False, True),  # strict wants the number right behind the marker
    ("#### 1,800.", "1800", True, True),
    ("It is 3 below zero.\n#### -3", "-3", True, True),
    ("#### -3", "3", False, False),
    ("#### 18.0", "18", True, True),
    ("#### 18.", "18", True, True),
    ("#### 18.5", "18", False, False),
    ("#### 7\nWait.\n#### 18", "7", True, False),  # strict: the first marker; flexible: the last number
    ("#### 7\nWait.\n#### 18", "18", False, True),
    ("The answer is eighteen", "18", False, False),
    ("The answer is 18", "18", False, True),
    ("", "18", False, False),
    ("####18", "18", False, True),  # no space
    ("#### eighteen", "18", False, False),
    ("#### 18 apples", "18", True, True),
    ("#### ...", "18", False, False),
    ("#### 18\n\nQuestion: Bo has 5 nuts. How many?\nAnswer: #### 5", "18", True, False),  # as the filters have it
    ("Done in 18 days...", "18", False, False),  # the dots are the last "number" of the published pattern
]


@pytest.mark.parametrize(("completion", "gold", "strict", "flexible"), EDGES)
def test_edge_cases(completion: str, gold: str, strict: bool, flexible: bool) -> None:
    assert GSM8K().grade(problem(gold), completion) == {"strict": strict, "flexible": flexible}
    check_agreement(completion, gold)


pieces = st.sampled_from(
    ["#### ", "####", "18", "1,800", "$", "-", ".", ",", "0", " ", "\n", "so", "-3", "18.0", "..", "Question:"]
)


@given(pieces=st.lists(pieces, max_size=12), gold=st.sampled_from(["18", "1800", "-3", "0"]))
def test_any_completion_reads_as_the_published_rules_read_it(pieces: list[str], gold: str) -> None:
    check_agreement("".join(pieces), gold)


@pytest.mark.parametrize("dots", ["72, in total...", "That is all..", "It costs $.", "#### ...\n$,", "#### 1.2.3"])
def test_what_is_no_number_is_no_answer(dots: str) -> None:
    assert set(GSM8K().read(dots).values()) == {None}


@pytest.mark.parametrize("minus", ["-", "\u2212", "\ufe63", "\uff0d"])
@pytest.mark.parametrize("evaluator", [GSM8K(), Svamp(), Pocket()], ids=lambda evaluator: evaluator.name)
def test_a_minus_is_a_minus_in_every_script(evaluator, minus: str) -> None:
    completion = f"It is {minus}3 degrees.\n#### {minus}3"
    assert evaluator.read(completion) == {"strict": "-3", "flexible": "-3"}
    assert evaluator.grade(problem("-3"), completion) == {"strict": True, "flexible": True}
    assert evaluator.grade(problem("3"), completion) == {"strict": False, "flexible": False}


def test_a_gold_may_have_a_minus_sign(made) -> None:
    made(last=json.dumps({"question": "How cold?", "answer": "It is cold.\n#### \u22123"}))
    assert GSM8K().problems("test")[-1].gold == "-3"


@pytest.mark.parametrize(("field", "value"), [("shots", 2.5), ("shots", True), ("dev_size", "500")])
def test_options_are_whole_numbers(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"GSM8K: {field} must be a whole number, not {value!r}"):
        GSM8K(**{field: value})


def test_a_run_on_completion_is_ended_by_the_stop_strings() -> None:
    completion = "#### 18\n\nQuestion: Bo has 5 nuts. How many?\nAnswer: #### 5"
    cut = completion[: min(completion.find(stop) for stop in GSM8K.stop if stop in completion)]
    assert GSM8K().grade(problem("18"), cut) == {"strict": True, "flexible": True}


def test_an_absent_answer_never_equals_anything() -> None:
    assert GSM8K().read("no idea") == {"strict": None, "flexible": None}
    assert GSM8K().grade(problem("18"), "no idea") == {"strict": False, "flexible": False}


def test_splits_do_not_overlap_and_are_drawn_the_same_each_time(made) -> None:
    made()
    gsm8k = GSM8K(shots=4, dev_size=10)
    parts = [gsm8k.problems("train"), gsm8k.problems("dev"), gsm8k.problems("test"), gsm8k.exemplars()]
    assert [len(part) for part in parts] == [16, 10, 5, 4]
    assert len({problem.id for part in parts for problem in part}) == 35
    assert len({problem.question for part in parts for problem in part}) == 35
    assert parts[3] == GSM8K(shots=4, dev_size=10).exemplars()
    assert GSM8K(shots=8, dev_size=10).problems("dev") == parts[1]
    assert GSM8K(shots=0, dev_size=10).exemplars() == []


@pytest.mark.parametrize(
    "answer",
    ["He has 3.", "He has 3.\n####", "#### 3\nHe has 3.", "He has #### 3 nuts", "He has 3.\n#### three", "#### ,.", ""],
)
def test_a_gold_that_is_absent_is_refused(made, answer: str) -> None:
    made(last=json.dumps({"question": "How many?", "answer": answer}))
    with pytest.raises(ValueError, match=r"test\.jsonl, line 6: the answer has no gold"):
        GSM8K().problems("test")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "How many?"', r"test\.jsonl, line 6: not JSON"),
        ('{"question": "How many?"}', r"test\.jsonl, line 6: no field 'answer'"),
        ('{"question": "How many?", "answer": 3}', r"test\.jsonl, line 6: field 'answer' must be text, not int"),
        ('{"question": " ", "answer": "#### 3"}', "problem 'gsm8k/test/5' has no question"),
    ],
)
def test_a_bad_line_is_named(made, line: str, message: str) -> None:
    made(last=line)
    with pytest.raises(ValueError, match=message):
        GSM8K().problems("test")


def test_bad_options_and_splits_are_refused(made) -> None:
    made()
    with pytest.raises(ValueError, match="must be at least 0"):
        GSM8K(shots=-1)
    with pytest.raises(ValueError, match="do not fit in 30 train problems"):
        GSM8K().problems("dev")
    with pytest.raises(ValueError, match="gsm8k has no split 'validation'; valid: train, dev, test"):
        GSM8K().problems("validation")  # type: ignore[arg-type]


def test_it_is_a_config() -> None:
    assert rebuild(resolve(GSM8K(shots=4))) == GSM8K(shots=4)


@needs_data
def test_the_official_files() -> None:
    gsm8k = GSM8K()
    parts = [gsm8k.problems("train"), gsm8k.problems("dev"), gsm8k.problems("test"), gsm8k.exemplars()]
    assert [len(part) for part in parts] == [7473 - 508, 500, 1319, 8]
    for key in ("id", "question"):
        assert len({getattr(problem, key) for part in parts for problem in part}) == 7473 + 1319
    assert all(gsm8k.grade(p, p.rationale) == {"strict": True, "flexible": True} for part in parts for p in part)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, list[dict]]:
    """Rows of the recorded run, by evaluation step."""
    folder = tmp_path_factory.mktemp("records")
    with tarfile.open(RECORDS) as archive:
        archive.extractall(folder, filter="data")
    return {
        path.stem.removeprefix("eval_samples_step_"): [
            json.loads(line) for line in path.read_text(encoding="utf8").splitlines()
        ]
        for path in folder.glob("*/eval_samples_step_*.jsonl")
    }


def strict_share(rows: list[dict], arm: str) -> float:
    return sum(GSM8K().grade(problem(row["gold_extracted"]), row[f"{arm}_full"])["strict"] for row in rows) / len(rows)


def invalid_share(rows: list[dict], arm: str) -> float:
    return sum(GSM8K().read(row[f"{arm}_full"])["strict"] is None for row in rows) / len(rows)


@needs_records
def test_the_recorded_run_grades_as_it_did(records) -> None:
    bridged = {step: strict_share(records[step], "bridged") for step in ("0", "250", "1500", "final")}
    assert bridged == {"0": 0.005, "250": 0.520, "1500": 0.680, "final": 0.645}
    assert (strict_share(records["final"], "source"), invalid_share(records["final"], "source")) == (0.540, 0.145)
    assert (strict_share(records["final"], "target"), invalid_share(records["final"], "target")) == (0.770, 0.020)


@needs_records
def test_every_recorded_completion_reads_as_the_published_rules_read_it(records) -> None:
    rewritten = 0
    for row in (row for rows in records.values() for row in rows):
        for arm in ("source", "target", "bridged"):
            completion, gold = row[f"{arm}_full"], row["gold_extracted"]
            check_agreement(completion, gold)
            strict = GSM8K().grade(problem(gold), completion)["strict"]
            rewritten += strict != (harness_plain(harness_strict(completion)) == harness_plain(gold))
            extracted = row[f"{arm}_extracted"].removesuffix(".")
            assert GSM8K().read(completion)["strict"] == (None if extracted == "[invalid]" else extracted)
    assert rewritten == 0  # on these completions, comparing numbers and comparing text come to the same
