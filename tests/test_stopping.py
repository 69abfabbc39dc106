from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybridge.stopping import Score, Stopping, best, decide


def scores(*accuracies: float, n: int = 200) -> list[Score]:
    """Evaluations in which the first problems are the right ones, and the NLL is always the same."""
    return [
        Score(step=50 * (i + 1), correct=tuple(j < round(accuracy * n) for j in range(n)), nll=1.0)
        for i, accuracy in enumerate(accuracies)
    ]


def test_a_fall_stops_only_when_the_paired_test_says_so():
    stopping = Stopping(degradation=0.05)
    decision = decide(stopping, scores(0.60, 0.68, 0.50))
    assert decision.stop
    assert decision.kind == "degradation"
    assert "step 150 is 0.180 below its best at step 100" in decision.reason


def test_the_trap_noise_on_200_problems_is_no_degradation():
    a = Score(step=1500, correct=tuple(i < 136 for i in range(200)), nll=1.0)
    shifted = tuple(20 <= i < 149 for i in range(200))  # 0.645, with 20 losses and 13 wins
    decision = decide(Stopping(degradation=0.03), [a, Score(step=1750, correct=shifted, nll=1.0)])
    assert not decision.stop


def test_a_significant_fall_within_the_limit_goes_on():
    assert not decide(Stopping(degradation=0.05), scores(0.68, 0.64, n=2000)).stop


def test_patience_counts_evaluations_after_the_best():
    stopping = Stopping(patience=2, degradation=None)
    assert not decide(stopping, scores(0.5, 0.4)).stop
    assert decide(stopping, scores(0.5, 0.4, 0.45)).kind == "patience"
    assert not decide(stopping, scores(0.5, 0.4, 0.51)).stop


def test_the_best_of_equals_has_the_lowest_nll_and_is_the_earliest():
    assert best(scores(0.4, 0.6, 0.6, 0.1)).step == 100
    nothing_right = [replace(score, nll=nll) for score, nll in zip(scores(0, 0, 0, 0), [1.9, 1.4, 1.4, 1.5], strict=True)]
    assert best(nothing_right).step == 100
    assert best([*nothing_right, replace(scores(0.01)[0], step=300, nll=2.0)]).step == 300


def test_patience_lasts_while_the_nll_falls():
    falling = [replace(score, nll=2 - 0.1 * i) for i, score in enumerate(scores(0, 0, 0, 0))]
    assert not decide(Stopping(patience=1, degradation=None), falling).stop
    assert decide(Stopping(patience=1, degradation=None), [*falling, replace(falling[-1], step=250)]).kind == "patience"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_nothing_stops_a_trial_that_asked_for_nothing(accuracies):
    assert not decide(Stopping(patience=None, degradation=None), scores(*accuracies, n=20)).stop


@pytest.mark.parametrize("bad", [dict(patience=0), dict(degradation=-0.1), dict(significance=0.0)])
def test_stopping_checks_itself(bad):
    with pytest.raises(ValueError, match=r"must|difference"):
        Stopping(**bad)
