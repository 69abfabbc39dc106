from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import bdtr, ndtri

from raybridge.stopping import Score, Stopping, best, decide, peak


def score(step: int, right: int, *, wrong_way: int = 0, nll: float = 1.0, n: int = 200) -> Score:
    """An evaluation in which the first problems are right, and with other problems' soft tokens the last."""
    return Score(
        step=step,
        correct=tuple(j < right for j in range(n)),
        shuffled=tuple(j >= n - wrong_way for j in range(n)),
        nll=nll,
    )


def scores(*accuracies: float, n: int = 200) -> list[Score]:
    """Evaluations whose control is never right and whose NLL is always the same."""
    return [score(50 * (i + 1), round(accuracy * n), n=n) for i, accuracy in enumerate(accuracies)]


def test_a_fall_stops_only_when_the_paired_test_says_so():
    stopping = Stopping(degradation=0.05)
    decision = decide(stopping, scores(0.60, 0.68, 0.50))
    assert decision.stop
    assert decision.kind == "degradation"
    assert "step 150 is 0.180 below its best at step 100" in decision.reason


def test_the_trap_noise_on_200_problems_is_no_degradation():
    a = score(1500, 136)
    shifted = tuple(20 <= i < 149 for i in range(200))  # 0.645, with 20 losses and 13 wins
    decision = decide(Stopping(degradation=0.03), [a, replace(a, step=1750, correct=shifted)])
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
    assert best([score(50, 120, nll=0.5), score(100, 120, nll=0.4), score(150, 120, nll=0.4)]).step == 100


def test_the_trap_a_best_that_is_one_lucky_problem_at_the_floor():
    """As K = 4 of the pocket sweep once was: 4 of 200 at step 60, 3 at step 120, and shuffled no worse."""
    floor = [score(60, 4, wrong_way=1, nll=0.83), score(90, 2, wrong_way=1, nll=0.69), score(120, 3, wrong_way=3, nll=0.62)]
    assert best(floor).step == 120
    assert peak(floor).step == 60
    assert best([*floor, score(150, 40, wrong_way=2, nll=0.9)]).step == 150


def test_what_beats_its_control_is_told_by_the_paired_test():
    assert score(1, 6).beats_shuffled  # six wins, no loss: p = 0.03
    assert not score(1, 5).beats_shuffled
    assert not score(1, 60, wrong_way=50).beats_shuffled
    assert not score(1, 2, wrong_way=90).beats_shuffled


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.floats(0, 2)), min_size=2, max_size=8))
def test_the_best_stays_or_is_the_new_one(evaluated):
    """No other checkpoint is kept."""
    told = [score(i, right, wrong_way=wrong_way, nll=nll, n=20) for i, (right, wrong_way, nll) in enumerate(evaluated)]
    for count in range(1, len(told)):
        assert best(told[: count + 1]) in (best(told[:count]), told[count])


def test_patience_lasts_while_the_nll_falls_at_the_floor():
    falling = [replace(one, nll=2 - 0.1 * i) for i, one in enumerate(scores(0, 0, 0, 0))]
    assert not decide(Stopping(patience=1, degradation=None), falling).stop
    assert decide(Stopping(patience=1, degradation=None), [*falling, replace(falling[-1], step=250)]).kind == "patience"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_nothing_stops_a_trial_that_asked_for_nothing(accuracies):
    assert not decide(Stopping(patience=None, degradation=None), scores(*accuracies, n=20)).stop


@pytest.mark.parametrize("bad", [dict(patience=0), dict(degradation=-0.1), dict(significance=0.0)])
def test_stopping_checks_itself(bad):
    with pytest.raises(ValueError, match=r"must|difference"):
        Stopping(**bad)


EVALUATIONS, PROBLEMS = 12, 500


def answered(rng: np.random.Generator, accuracies: list[float], trials: int, alike: float) -> np.ndarray:
    """Right or wrong by (trial, evaluation, problem). alike: share of an answer that is the problem's own, at every step."""
    shape = trials, len(accuracies), PROBLEMS
    own = np.sqrt(alike) * rng.standard_normal((trials, 1, PROBLEMS)) + np.sqrt(1 - alike) * rng.standard_normal(shape)
    return own < ndtri(np.array(accuracies))[None, :, None]


def stopped(right: np.ndarray) -> np.ndarray:
    """Whether each trial is stopped for degradation at some evaluation: the rule for all of them at once."""
    stopping, counts = Stopping(), right.astype(np.float32)
    both, each = (counts @ counts.transpose(0, 2, 1)).astype(int), counts.sum(2).astype(int)
    trials, looks = each.shape
    every, found = np.arange(trials), np.zeros(trials, dtype=bool)
    for last in range(1, looks):
        top = each[:, :last].argmax(1)
        lost, won = (each[every, one] - both[every, top, last] for one in (top, last))
        p = bdtr(won, np.maximum(lost + won, 1), 0.5) * looks * (looks - 1) / 2
        found |= ((lost - won) / PROBLEMS > stopping.degradation) & (p <= stopping.significance)
    return found


def decided(right: np.ndarray) -> bool:
    """Whether one trial is stopped for degradation at some evaluation."""
    scores = [
        Score(step=i, correct=tuple(map(bool, one)), shuffled=(False,) * PROBLEMS, nll=1.0) for i, one in enumerate(right)
    ]
    told = [decide(Stopping(), scores[: count + 1], planned=len(scores)) for count in range(len(scores))]
    return any(one.kind == "degradation" for one in told)


FALLS = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7] + [0.6] * 6


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_the_trap_a_maximum_tested_against_later_noise(alike):
    """Twelve looks at 500 problems, and an accuracy that never changes: it stopped half of the trials."""
    rng = np.random.default_rng(3)
    for accuracy in (0.3, 0.5, 0.7, 0.9):
        found = stopped(answered(rng, [accuracy] * EVALUATIONS, 400, alike))
        assert found.mean() < 0.05
    right = answered(rng, FALLS, 400, alike)
    found = stopped(right)
    assert found.mean() > 0.8
    some = [*np.flatnonzero(found)[:6], *np.flatnonzero(~found)[:6]]
    assert [decided(right[one]) for one in some] == list(found[some])


def test_a_constant_accuracy_is_stopped_however_many_evaluations_there_are_no_more_often():
    found = stopped(answered(np.random.default_rng(4), [0.5] * 40, 200, 0.0))
    assert found.mean() < 0.05
