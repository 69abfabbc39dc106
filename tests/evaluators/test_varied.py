"""Questions again with other numbers: each means one thing, is known by what it says, and is in no dev or test split."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.pocket import Pocket
from raybridge.data.texts import plain
from raybridge.data.varied import varied, with_other_numbers

FEW = Pocket(train=24, dev=8, test=8)


@given(st.text(alphabet="ab 0123456789.,$%", max_size=40), st.integers(0, 5))
def test_a_number_has_as_many_digits_and_is_the_same_wherever_it_stands(text, seed):
    other = with_other_numbers(text, seed=str(seed))
    assert re.sub(r"[1-9]\d*", "#", other) == re.sub(r"[1-9]\d*", "#", text)
    pairs = list(zip(re.findall(r"[1-9]\d*", text), re.findall(r"[1-9]\d*", other), strict=True))
    assert all(len(was) == len(now) for was, now in pairs)
    assert len(dict(pairs)) == len(set(pairs)), "one number became two"


def test_they_are_the_same_wherever_they_are_drawn_and_each_is_new():
    train = FEW.problems("train")
    twice = varied(train, 2, own=FEW)
    assert twice == varied(train, 2, own=FEW)
    assert twice[: len(varied(train, 1, own=FEW))] == varied(train, 1, own=FEW)
    said = [plain(one.question) for one in (*train, *twice)]
    assert len(set(said)) == len(said)
    assert len({one.id for one in twice}) == len(twice) > 1.8 * len(train)
    assert all(one.id.partition("~")[0] in {problem.id for problem in train} for one in twice)
    assert varied(train, 0, own=FEW) == []


def test_the_trap_a_question_that_is_judged(monkeypatch):
    train = FEW.problems("train")
    judged = varied(train, 1, own=FEW)[3]
    monkeypatch.setattr("raybridge.data.varied.said_in", lambda own, folder: frozenset({plain(judged.question)}))
    assert judged not in varied(train, 1, own=FEW)


@pytest.mark.parametrize("text", ["no numbers", "", "0 and 00"])
def test_a_text_without_numbers_stays(text):
    assert with_other_numbers(text, seed="1") == text
