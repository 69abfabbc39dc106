"""The card of an evaluation: each arm beside what it must beat."""

from raybridge.analysis.scorecard import control_of


def test_controls_are_what_an_arm_must_beat():
    assert control_of("bridged", ["no_context"]) is None  # never another control in silence
    assert control_of("zero", ["no_context", "zero"]) is None
