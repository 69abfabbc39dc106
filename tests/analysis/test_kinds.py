"""Rows by the kind of their arm."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybridge import arms
from raybridge.analysis import kinds

LABELS = [arm.name + more for arm in arms.every() for more in ("", "+ban4", "+anchor(a+b@c)", "@other", "+ban4@other")]


@given(st.permutations(LABELS))
def test_labels_stand_in_the_order_of_arms_with_their_kind_behind_each(labels):
    found = kinds.ordered([*labels, *labels])
    assert [arms.parse(label).arm for label in found[::5]] == [arm.name for arm in arms.every()]
    assert sorted(found) == sorted(LABELS)
    assert all(kinds.is_plain(label) == (number % 5 == 0) for number, label in enumerate(found))


def test_an_arm_that_is_not_there_is_of_no_kind():
    assert kinds.ordered(["bridged", "of_tomorrow", "of_tomorrow+ban4"]) == ["bridged"]
    assert kinds.are(pd.Series(["of_tomorrow", "bridged+ban4"]), kinds.there).tolist() == [False, True]
    assert kinds.are(pd.Series([], dtype=object), kinds.there).tolist() == []
    assert kinds.control_of("of_tomorrow", ["no_context"]) is None


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (kinds.bridge, "bridged bridged_fp16 bridged_int8 bridged_int6 bridged_int4 bridged_with_text"),
        (kinds.textless, "bridged bridged_fp16 bridged_int8 bridged_int6 bridged_int4"),
        (kinds.control, "shuffled shuffled_with_text shuffled_crammed mean random zero random_text no_context"),
        (kinds.of_sweeps, "source target bridged bridged_with_text token_budget shuffled shuffled_with_text zero no_context"),
        (
            kinds.costed,
            "source target bridged bridged_with_text prompt_tuning format_only receiver_lora token_budget "
            "selective_text text_relay cascade source_answer_as_text self_repair joint shuffled shuffled_with_text",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_kinds(kind, names):
    assert [arm.name for arm in arms.every() if kind(arm)] == names.split()


@pytest.mark.parametrize(
    ("label", "control"),
    [
        ("bridged", "shuffled"),
        ("bridged_int4", "shuffled"),
        ("bridged+ban4", "shuffled+ban4"),
        ("bridged@other", "shuffled@other"),
        ("bridged_with_text", "shuffled_with_text"),
        ("target", "no_context"),
        ("prompt_tuning", "no_context"),
        ("shuffled", None),
        ("bridged_with_text@other", "shuffled_with_text@other"),
    ],
)
def test_what_an_arm_must_beat(label, control):
    told = [one for one in LABELS if kinds.is_a(one, kinds.trained) or not arms.parse(one).at]  # as evaluation labels rows
    assert kinds.control_of(label, told) == control
    assert kinds.control_of(label, []) is None
