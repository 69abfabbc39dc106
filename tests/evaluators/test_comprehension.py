"""SQuAD and HotpotQA: graded as the official scripts grade, and rows in every form that they come in."""

import json
import os
import re
import string
from collections import Counter
from pathlib import Path

import pytest
from graded import problem
from hypothesis import given
from hypothesis import strategies as st

from evaluators.hotpotqa import HotpotQA
from evaluators.squad import Squad

DATA = Path(os.environ.get("RAYBRIDGE_DATA", "absent"))


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


@pytest.mark.skipif(not (DATA / "squad").exists(), reason="RAYBRIDGE_DATA has no benchmarks")
def test_the_real_squad_splits_share_no_paragraph() -> None:
    paragraphs = [{p.question.rpartition("\n\n")[0] for p in Squad().problems(split)} for split in ("train", "dev", "test")]
    assert not paragraphs[0] & paragraphs[1]
    assert not (paragraphs[0] | paragraphs[1]) & paragraphs[2]
