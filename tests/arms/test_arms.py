"""What the folder of arms hands out, and labels put together and taken apart."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybridge import arms
from raybridge.arms import Label, find, parse
from raybridge.arms.arm import Arm
from raybridge.models.hardening import Hardening

NAMES = st.sampled_from([arm.name for arm in arms.every()])
HARDENINGS = st.builds(
    Hardening,
    top_p=st.none() | st.floats(0.1, 1.0),
    ban_end=st.integers(0, 9),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    anchor=st.text(st.characters(blacklist_characters=")", blacklist_categories=["Cs"]), max_size=12).map(str.strip),
    bos=st.booleans(),
)


def test_every_control_fails_against_nothing_and_every_other_arm_has_something_to_beat():
    for arm in arms.every():
        assert arm.control == (arm.against is None)
        assert arm.control or find(arm.against).name != arm.name


def test_controls_stand_last():
    flags = [arm.control for arm in arms.every()]
    assert flags == sorted(flags)


def test_what_an_arm_is_handed_is_an_arm_of_a_model_alone():
    for arm in arms.every():
        for handed in arm.passes_on:
            assert find(handed).frozen
            assert not find(handed).passes_on


def test_no_two_arms_look_alike():
    looks = [(arm.look["color"], str(arm.look["linestyle"]), arm.look["marker"]) for arm in arms.every()]
    assert len(set(looks)) == len(looks)


@given(arm=NAMES, hardening=HARDENINGS, at=st.sampled_from(["", "org/model-1", "./a+b", "pocket:source"]))
def test_a_label_is_taken_apart_as_it_was_put_together(arm, hardening, at):
    label = Label(arm=arm, hardening=hardening.label, at=at)
    assert parse(str(label)) == label
    assert arms.known(str(label)) is find(arm)


def test_what_is_no_label_is_refused_and_what_is_no_arm_is_not_known():
    with pytest.raises(ValueError, match="no label of an arm"):
        parse("+ban4")
    assert arms.known("an_arm_of_tomorrow+ban4") is None


def test_a_mistyped_arm_gets_its_nearest():
    with pytest.raises(ValueError, match="did you mean 'bridged'"):
        find("bridge")
    with pytest.raises(ValueError, match="unknown arm without a translator 'bridged'; valid: source"):
        find("bridged", among=["source"], kind="arm without a translator")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"name": "no name"}, "letters, digits and underscores"),
        ({"name": "a", "reads_text": True, "trained": True}, "needs no translator"),
        ({"name": "a", "control": True}, "a control is beaten"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(facts, says):
    with pytest.raises(ValueError, match=says):
        Arm(**facts)


def test_a_file_in_the_folder_is_found_and_a_name_that_is_taken_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from raybridge.arms.arm import Arm\n\nMINE = Arm(name='mine')\n")
    monkeypatch.setattr(arms, "__path__", [*arms.__path__, str(tmp_path)])
    arms._by_name.cache_clear()
    try:
        assert find("mine").order == 500
        (tmp_path / "yours.py").write_text("from raybridge.arms.arm import Arm\n\nYOURS = Arm(name='mine', order=3)\n")
        arms._by_name.cache_clear()
        with pytest.raises(ValueError, match=r"yours\.py: there is another arm named 'mine'"):
            arms.every()
    finally:
        arms._by_name.cache_clear()
        for name in ("mine", "yours"):
            sys.modules.pop(f"raybridge.arms.{name}", None)
