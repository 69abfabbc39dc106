"""MATH-500, SQuAD, HotpotQA and SVAMP: published grading, bad rows refused, and the real files where they are."""

import json
import os
import re
import string
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.gsm8k import GSM8K
from evaluators.hotpotqa import HotpotQA
from evaluators.math import Math500
from evaluators.squad import Squad
from evaluators.svamp import Svamp
from raybridge.config import fingerprint, rebuild, resolve
from raybridge.data import Problem

DATA = Path(os.environ.get("RAYBRIDGE_DATA", "absent"))
ALL = [GSM8K(), Math500(), Squad(), HotpotQA(), HotpotQA(setting="fullwiki"), Svamp()]


def problem(gold: str, *also: str) -> Problem:
    return Problem(id="made/0", question="What?", gold=gold, rationale=gold, also=also)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A function that writes a file under RAYBRIDGE_DATA."""
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))

    def write(name: str, content: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    return write


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


def official_normal(text: str) -> str:
    kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def official_f1(prediction: str, gold: str) -> float:
    found, wanted = official_normal(prediction).split(), official_normal(gold).split()
    same = sum((Counter(found) & Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def official_hotpot_f1(prediction: str, gold: str) -> float:
    found, wanted = official_normal(prediction), official_normal(gold)
    if found != wanted and (found in ("yes", "no", "noanswer") or wanted in ("yes", "no", "noanswer")):
        return 0.0
    return official_f1(prediction, gold)


pieces = st.sampled_from(
    ["the", "The", "a", "An", "cat", "cat's", "U.S.", "yes", "no", "–the–", "1,000", "", "-", "theory", "noanswer"]
)
answers = st.lists(pieces, min_size=1, max_size=5).map(" ".join).filter(str.strip)


@given(prediction=answers, golds=st.lists(answers, min_size=1, max_size=3))
def test_squad_and_hotpotqa_grade_as_the_official_scripts_do(prediction: str, golds: list[str]) -> None:
    em = [official_normal(prediction) == official_normal(gold) for gold in golds]
    scores = Squad().grade(problem(*golds), prediction)
    assert scores["em"] == max(em)
    assert scores["f1"] == pytest.approx(max(official_f1(prediction, gold) for gold in golds))
    scores = HotpotQA().grade(problem(golds[0]), prediction)
    assert scores["em"] == em[0]
    assert scores["f1"] == pytest.approx(official_hotpot_f1(prediction, golds[0]))


@pytest.mark.parametrize(
    ("completion", "golds", "em", "f1"),
    [
        ("The Orrin Mill.", ["Orrin Mill"], True, 1.0),
        ("orrin", ["Orrin Mill"], False, 2 / 3),
        ("in 1841", ["1841", "in 1841"], True, 1.0),  # the best answer counts
        ("1841\nBecause the text says so.", ["1841"], True, 1.0),  # only the first line is graded
        ("\n 1841", ["1841"], True, 1.0),
        ("mill mill", ["mill"], False, 2 / 3),  # words count as often as they occur
        ("elsewhere", ["Orrin Mill"], False, 0.0),
    ],
)
def test_squad_edge_cases(completion: str, golds: list[str], em: bool, f1: float) -> None:
    assert Squad().grade(problem(*golds), completion) == {"em": em, "f1": pytest.approx(f1)}


def test_hotpotqa_gives_no_part_of_a_point_for_yes_or_no() -> None:
    assert HotpotQA().grade(problem("yes"), "yes it is") == {"em": False, "f1": 0.0}
    assert HotpotQA().grade(problem("no"), "No.") == {"em": True, "f1": 1.0}
    assert HotpotQA().grade(problem("yes and no"), "no") == {"em": False, "f1": 0.0}
    assert Squad().grade(problem("yes"), "yes it is")["f1"] == 0.5


def squad_row(number: int, context: str) -> dict:
    return {"context": context, "question": f"Who is number {number}?", "answer": f"Bo {number}"}


def test_squad_train_shares_no_paragraph_with_dev(data) -> None:
    data("squad/train_subset.json", json.dumps([squad_row(n, f"Paragraph {n // 4}.") for n in range(40)]))
    squad = Squad(dev_size=6)
    train, dev = squad.problems("train"), squad.problems("dev")
    assert len(dev) == 6
    assert train
    assert not {p.question.split("\n")[0] for p in train} & {p.question.split("\n")[0] for p in dev}
    with pytest.raises(ValueError, match="dev_size 500 does not fit in 40"):
        Squad().problems("train")


def test_squad_context_stands_before_the_question(data) -> None:
    asked = {"id": "made-1", "question": "When?", "answers": [{"text": "1841", "answer_start": 3}, {"text": "in 1841"}]}
    data("squad/dev-v1.1.json", json.dumps({"data": [{"paragraphs": [{"context": "Built in 1841.", "qas": [asked]}]}]}))
    (found,) = Squad().problems("test")
    assert found.question == "Built in 1841.\n\nQuestion: When?"
    assert (found.id, found.gold, found.also) == ("squad/test/made-1", "1841", ("in 1841",))


@pytest.mark.parametrize("answers", [[], [{"text": " "}], None])
def test_squad_without_a_gold_is_refused(data, answers) -> None:
    asked = {"id": "made-1", "question": "When?", "answers": answers}
    data("squad/dev-v1.1.json", json.dumps({"data": [{"paragraphs": [{"context": "Built in 1841.", "qas": [asked]}]}]}))
    with pytest.raises(ValueError, match=r"dev-v1\.1\.json, row 0: no gold answer"):
        Squad().problems("test")


def test_squad_of_another_form_is_refused(data) -> None:
    data("squad/dev-v1.1.json", '{"data": [{"paragraph": []}]}')
    with pytest.raises(ValueError, match="not of the form that was expected"):
        Squad().problems("test")


HOTPOT = {
    "_id": "made-1",
    "question": "Where?",
    "answer": "Norway",
    "context": [["Mill", ["It was founded.", " By Ada."]], ["Ada", []]],
}


def test_hotpotqa_reads_the_official_form_and_the_hubs(data) -> None:
    hub = {
        "id": "made-2",
        "question": "Where?",
        "answer": "Norway",
        "context": {"title": ["Mill", "Ada"], "sentences": [["It was founded.", " By Ada."], []]},
    }
    data("hotpotqa/gold_present_100.jsonl", json.dumps(HOTPOT) + "\n" + json.dumps(hub) + "\n")
    first, second = HotpotQA().problems("test")
    assert first.question == second.question == "Mill: It was founded. By Ada.\nAda: \n\nQuestion: Where?"
    assert [first.id, second.id] == ["hotpotqa/made-1", "hotpotqa/made-2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": "Mill"}, "line 1: a context is a list"),
        ({"_id": None}, "line 1: no field '_id'"),
        ({"answer": ""}, "problem 'hotpotqa/made-1' has no gold"),
        ({"answer": 3}, "line 1: field 'answer' must be text"),
    ],
)
def test_hotpotqa_bad_rows_are_named(data, change: dict, message: str) -> None:
    data("hotpotqa/gold_present_100.jsonl", json.dumps(HOTPOT | change) + "\n")
    with pytest.raises(ValueError, match=message):
        HotpotQA().problems("test")


def test_hotpotqa_duplicate_ids_and_unknown_settings_are_refused(data) -> None:
    data("hotpotqa/gold_present_100.jsonl", (json.dumps(HOTPOT) + "\n") * 2)
    with pytest.raises(ValueError, match="two problems have the id 'hotpotqa/made-1'"):
        HotpotQA().problems("test")
    with pytest.raises(ValueError, match="no setting 'distractors'; valid: distractor, fullwiki"):
        HotpotQA(setting="distractors")


PENS = {
    "ID": "made-1",
    "Body": "Ola has 9 pens and gives 4 away",
    "Question": "How many now?",
    "Equation": "( 9.0 - 4.0 )",
    "Answer": 5.0,
}


def test_svamp_reads_its_rows(data) -> None:
    data("svamp/SVAMP.json", json.dumps([PENS, PENS | {"ID": "made-2", "Body": "Ola has 9 pens.", "Answer": "1200.0"}]))
    first, second = Svamp().problems("test")
    assert first.question == "Ola has 9 pens and gives 4 away. How many now?"
    assert (first.id, first.gold, first.rationale) == ("svamp/made-1", "5", "( 9.0 - 4.0 ) = 5\n#### 5")
    assert (second.question, second.gold) == ("Ola has 9 pens. How many now?", "1200")


@pytest.mark.parametrize(
    ("change", "message"), [({"Answer": "five"}, "row 0: the answer 'five' is no number"), ({"ID": 3}, "must be text")]
)
def test_svamp_bad_rows_are_named(data, change: dict, message: str) -> None:
    data("svamp/SVAMP.json", json.dumps([PENS | change]))
    with pytest.raises(ValueError, match=message):
        Svamp().problems("test")


@pytest.mark.parametrize(
    ("completion", "gold", "strict", "flexible"),
    [
        ("9-4=5\n#### 5", "5", True, True),
        ("#### 5.0", "5", True, True),
        ("It is 33.33", "33.333", False, True),  # within the official 0.01
        ("It is 33.35", "33.333", False, False),
        ("She has $1,200.", "1200", False, True),
        ("no idea", "5", False, False),
    ],
)
def test_svamp_edge_cases(completion: str, gold: str, strict: bool, flexible: bool) -> None:
    assert Svamp().grade(problem(gold), completion) == {"strict": strict, "flexible": flexible}


@pytest.mark.parametrize(
    ("completion", "gold", "strict", "flexible"),
    [
        (r"So $\boxed{\frac{3}{4}}$.", r"\frac{3}{4}", True, True),
        (r"So \boxed{0.75}.", r"\frac34", True, True),
        (r"So the answer is $\frac{6}{8}$.", r"\frac{3}{4}", False, True),  # no box
        (r"\boxed{1} and then \boxed{2}", "2", True, False),  # the last box counts; the library takes both for a set
        (r"\boxed{(x+1)^2}", "x^2+2x+1", True, True),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", True, True),
        (r"\boxed{3", "3", False, False),  # never closed
        (r"\boxed{}", "3", False, False),
        (r"\boxed{4}", "3", False, False),
        ("I do not know", "3", False, False),
    ],
)
def test_math500_edge_cases(completion: str, gold: str, strict: bool, flexible: bool) -> None:
    assert Math500().grade(problem(gold), completion) == {"strict": strict, "flexible": flexible}


def test_math500_reads_what_stands_in_the_box() -> None:
    assert Math500().read(r"a \boxed{\frac{1}{2}} b")["strict"] == r"\frac{1}{2}"
    assert Math500().read("none")["strict"] is None


def test_math500_grades_off_the_main_thread() -> None:
    scores = []
    thread = threading.Thread(target=lambda: scores.append(Math500().grade(problem("1/2"), r"\boxed{\frac{1}{2}}")))
    thread.start()
    thread.join()
    assert scores == [{"strict": True, "flexible": True}]


SHIPPED = [(Math500(), 500), (Squad(), 10_570), (HotpotQA(), 100), (HotpotQA(setting="fullwiki"), 500), (Svamp(), 1000)]


@pytest.mark.skipif(not (DATA / "squad").exists(), reason="RAYBRIDGE_DATA has no benchmarks")
@pytest.mark.parametrize(("evaluator", "count"), SHIPPED, ids=[f"{e.name}-{n}" for e, n in SHIPPED])
def test_the_real_rows_grade_their_own_answers_as_right(evaluator, count: int) -> None:
    problems = evaluator.problems("test")
    assert len(problems) == count
    assert all(all(evaluator.grade(one, one.rationale).values()) for one in problems)


@pytest.mark.skipif(not (DATA / "squad").exists(), reason="RAYBRIDGE_DATA has no benchmarks")
def test_the_real_squad_splits_share_no_paragraph() -> None:
    paragraphs = [{p.question.rpartition("\n\n")[0] for p in Squad().problems(split)} for split in ("train", "dev", "test")]
    assert not paragraphs[0] & paragraphs[1]
    assert not (paragraphs[0] | paragraphs[1]) & paragraphs[2]
