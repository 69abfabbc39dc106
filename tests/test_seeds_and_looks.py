"""What more than one look and more than one seed do to a test, an interval and a ranking."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from raybridge import statistics
from raybridge.statistics import (
    aa_band,
    compare,
    fall,
    mcnemar_exact,
    minimum_detectable_effect,
    picked,
    two_level_interval,
    wilson,
)


def simulated_seeds(rng, seeds, n, spread):
    """Right or wrong by (seed, problem) of a method of accuracy 0.6: problems differ in difficulty, seeds in skill."""
    difficulty, skill = rng.beta(1.5, 1, n), rng.normal(0, spread, seeds)
    return rng.random((seeds, n)) < np.clip(difficulty + skill[:, None], 0, 1)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.06), (5, 0.03)])
def test_the_interval_of_two_levels_covers_the_method_where_that_over_problems_does_not(seeds, spread):
    rng = np.random.default_rng(17)
    both, problems = [], []
    for _ in range(150):
        scores = simulated_seeds(rng, seeds, 150, spread)
        intervals = two_level_interval(scores), wilson(int(scores[0].sum()), 150)
        two, one = (low <= 0.6 <= high for low, high in intervals)
        both.append(two)
        problems.append(one)
    assert np.mean(both) >= 0.93
    assert spread == 0 or np.mean(problems) < 0.93


def test_the_interval_of_two_levels_is_of_a_mean_of_a_difference_and_of_a_ratio():
    rng = np.random.default_rng(18)
    scores = simulated_seeds(rng, 4, 200, 0.02).astype(float)
    low, high = two_level_interval(scores)
    assert low < scores.mean() < high
    assert two_level_interval(scores, over=np.full(200, 2.0)) == pytest.approx((low / 2, high / 2))
    lower, upper = two_level_interval(scores, minus=scores[:3] - 0.3)
    assert lower < 0.3 < upper
    with pytest.raises(ValueError, match="an interval over seeds needs at least 3 of them, not 2"):
        two_level_interval(scores[:2])


def test_a_fall_is_tested_one_way_and_for_all_pairs_of_looks():
    peak, later = [True] * 12 + [False] * 8, [False] * 10 + [True] * 2 + [True] + [False] * 7
    p = stats.binom.cdf(1, 11, 0.5)
    assert fall(peak, later, looks=2) == pytest.approx(p)
    assert fall(peak, later, looks=4) == pytest.approx(6 * p)
    assert fall(later, peak, looks=2) > 0.99
    assert fall(peak, later, looks=40) == fall(peak, peak, looks=2) == 1.0
    one = compare(peak, later)
    assert (one.verdict, picked(one, looks=2)) == ("worse", one)
    assert picked(one, looks=5).p == pytest.approx(10 * one.p)
    assert picked(one, looks=5).verdict == "tie"


def test_the_trap_a_peak_that_is_tested_against_the_final_as_if_it_were_any_other():
    """Of an accuracy that never changes, the peak of twelve evaluations is "significantly" above the last in a tenth."""
    rng = np.random.default_rng(19)
    ps = []
    for _ in range(400):
        right = rng.random((12, 500)) < 0.6
        ps.append(mcnemar_exact(right[right[:-1].sum(1).argmax()], right[-1]))
    assert np.mean(np.array(ps) <= 0.05) > 0.09
    assert np.mean(np.array(ps) * statistics.pairs(12) <= 0.05) < 0.05


def test_the_trap_early_stopping_on_200_problems():
    """0.680 against 0.645 on 200 problems is noise unless the two disagree on very few of them."""
    assert minimum_detectable_effect(200, discordant=0.15) > 0.035
    a = [True] * 136 + [False] * 64
    b = [True] * 116 + [False] * 20 + [True] * 13 + [False] * 51
    found = compare(a, b)
    assert found.difference == pytest.approx(-0.035)
    assert (found.wins, found.losses) == (13, 20)
    assert found.verdict == "tie"
    assert found.interval[0] < 0 < found.interval[1]


def test_the_band_holds_the_difference_of_two_replicates():
    rng = np.random.default_rng(15)
    inside = []
    for _ in range(1500):
        *group, one, other = rng.normal(0.6, 0.02, size=5)
        inside.append(abs(one - other) <= aa_band(group))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_bands_pool_groups_and_say_nothing_without_replicates():
    assert aa_band([0.5], [0.6]) is None
    assert aa_band() is None
    assert aa_band([0.5, 0.5, 0.5]) == 0
    assert aa_band([0.50, 0.52]) is None  # two seeds in all: t is 12.7
    two, three = aa_band([0.50, 0.52], [0.70, 0.72]), aa_band([0.50, 0.52], [0.70, 0.72], [0.1, 0.12])
    assert three < two  # the same spread, better known
    assert aa_band([0.50, 0.52], [0.70, 0.72]) == pytest.approx(stats.t.ppf(0.975, 2) * 0.02)
