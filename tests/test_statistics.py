from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from raybridge import statistics
from raybridge.statistics import (
    aa_band,
    against_control,
    compare,
    corrected,
    fall,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_bootstrap,
    picked,
    ratio_interval,
    sign_flip,
    two_level_interval,
    verdict,
    wilson,
)

binary = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
scores = st.lists(st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 2), min_size=1, max_size=30)


def halves(pairs):
    return [a for a, _ in pairs], [b for _, b in pairs]


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_statsmodels(counts, level):
    assert wilson(*counts, level) == pytest.approx(proportion_confint(*counts, alpha=1 - level, method="wilson"), abs=1e-9)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_accuracy_and_mirrors(counts):
    correct, n = counts
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert wilson(n - correct, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_count(correct, n):
    with pytest.raises(ValueError, match=r"no problems|no count"):
        wilson(correct, n)


@given(binary)
def test_mcnemar_agrees_with_statsmodels(pairs):
    a, b = halves(pairs)
    table = np.zeros((2, 2), dtype=int)
    for left, right in pairs:
        table[int(left), int(right)] += 1
    assert mcnemar_exact(a, b) == pytest.approx(min(1.0, mcnemar(table, exact=True).pvalue), abs=1e-12)


def test_mcnemar_on_a_table_by_hand():
    """Nine of ten discordant problems on one side: 2 * (C(10, 9) + 1) / 2^10."""
    a, b = [True] * 9 + [False] + [True] * 90, [False] * 9 + [True] + [True] * 90
    assert mcnemar_exact(a, b) == pytest.approx(22 / 1024)


def test_mcnemar_refuses_scores_that_are_not_right_or_wrong():
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar_exact([0.5, 1.0], [0.0, 1.0])


@settings(max_examples=30)
@given(scores)
def test_bootstrap_mirrors_and_stays_in_range(pairs):
    a, b = halves(pairs)
    low, high = paired_bootstrap(a, b, resamples=500)
    differences = np.subtract(b, a)
    assert differences.min() - 1e-9 <= low <= high <= differences.max() + 1e-9
    assert paired_bootstrap(a, b, resamples=500) == (low, high)  # seeded


def test_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(3)
    for a, b in [(rng.random(200) < 0.4, rng.random(200) < 0.6), (rng.random(150), rng.random(150) ** 2)]:
        differences = np.subtract(b, a, dtype=float)
        theirs = stats.bootstrap(
            (differences,), np.mean, n_resamples=10_000, method="percentile", batch=500, random_state=np.random.default_rng(1)
        ).confidence_interval
        assert paired_bootstrap(a, b) == pytest.approx(tuple(theirs), abs=0.008)


def test_bootstrap_in_small_parts_is_the_same_bootstrap(monkeypatch):
    """Memory is bounded by drawing in parts; the parts must not repeat one another."""
    rng = np.random.default_rng(0)
    a, b = rng.random(300), rng.random(300)
    whole = paired_bootstrap(a, b)
    monkeypatch.setattr(statistics, "RESAMPLED_AT_ONCE", 300 * 7)
    assert paired_bootstrap(a, b) == pytest.approx(whole, abs=1e-12)


def test_sign_flip_agrees_with_the_exact_permutation_test():
    rng = np.random.default_rng(5)
    a = rng.random(11)
    b = a + rng.normal(0.1, 0.2, 11)
    exact = stats.permutation_test(
        (b, a), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    ).pvalue
    assert sign_flip(a, b) == pytest.approx(exact, abs=0.01)
    assert sign_flip(a, a) == 1.0


@settings(max_examples=20)  # statsmodels takes its time
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_agrees_with_statsmodels(ps):
    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms())
def test_holm_never_lowers_a_p_and_does_not_depend_on_order(ps, random):
    adjusted = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))
    order = random.sample(range(len(ps)), len(ps))
    assert holm([ps[i] for i in order]) == [adjusted[i] for i in order]


def test_holm_of_nothing_is_nothing_and_no_p_is_refused():
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, math.nan])


def simulate(rng, n, trials, only_a, only_b):
    """Paired tables: `only_a` and `only_b` are the shares of problems that one alone gets right; the rest both get right."""
    kind = rng.choice(3, size=(trials, n), p=[only_a, only_b, 1 - only_a - only_b])
    return kind != 1, kind != 0


def test_wilson_covers_what_it_claims():
    """Exactly, not simulated: the probability of every count that can come out of 200 problems."""
    intervals = np.array([wilson(k, 200) for k in range(201)])
    coverage = []
    for p in np.linspace(0.02, 0.98, 97):
        inside = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        coverage.append(stats.binom.pmf(np.arange(201), 200, p)[inside].sum())
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)
    assert min(coverage) > 0.92


def test_mcnemar_calls_no_difference_significant_more_often_than_it_says():
    lefts, rights = simulate(np.random.default_rng(12), 200, 600, 0.15, 0.15)
    assert np.mean([mcnemar_exact(a, b) <= 0.05 for a, b in zip(lefts, rights, strict=True)]) <= 0.065


def test_bootstrap_covers_what_it_claims():
    lefts, rights = simulate(np.random.default_rng(13), 200, 300, 0.10, 0.22)
    intervals = [paired_bootstrap(a, b, resamples=2000) for a, b in zip(lefts, rights, strict=True)]
    assert np.mean([low <= 0.12 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.03)


def test_the_interval_of_a_ratio_covers_what_it_claims():
    rng = np.random.default_rng(16)
    covered = []
    for _ in range(800):
        gap = rng.gamma(4, 2, size=200)
        closed = 0.4 * gap + rng.normal(0, 3, size=200)
        low, high = ratio_interval(closed, gap)
        covered.append(low <= 0.4 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)
    assert ratio_interval([1, 2, 3], [2, 4, 6]) == pytest.approx((0.5, 0.5))
    assert ratio_interval([1.0] * 4, [2.0] * 4) == pytest.approx((0.5, 0.5))
    with pytest.raises(ValueError, match="not 0"):
        ratio_interval([1, 2], [1, -1])


@pytest.mark.parametrize(("n", "discordant"), [(200, 0.3), (1319, 0.5), (500, 0.1)])
def test_the_minimum_detectable_effect_is_detected_with_the_power_asked_for(n, discordant):
    effect = minimum_detectable_effect(n, discordant=discordant)
    lefts, rights = simulate(np.random.default_rng(14), n, 500, (discordant - effect) / 2, (discordant + effect) / 2)
    detected = np.mean([mcnemar_exact(a, b) <= 0.05 for a, b in zip(lefts, rights, strict=True)])
    assert 0.70 <= detected <= 0.86  # the exact test gives up a little of the 0.80 to stay below its level


def test_the_minimum_detectable_effect_falls_with_n_and_says_when_nothing_can_be_shown():
    effects = [minimum_detectable_effect(n) for n in (50, 200, 1319, 10_000)]
    assert effects == sorted(effects, reverse=True)
    assert effects[-1] < 0.025
    assert minimum_detectable_effect(4) == math.inf
    assert minimum_detectable_effect(200, power=0.3) < minimum_detectable_effect(200, power=0.5) < effects[1]


def test_what_n_problems_can_show_before_a_run():
    """At 20% discordance and 80% power: 8.9 points of 200 problems, 3.5 of the 1,319 of GSM8K."""
    effects = [minimum_detectable_effect(n, discordant=0.2) for n in (200, 1319)]
    assert [math.ceil(1000 * effect) / 10 for effect in effects] == [8.9, 3.5]  # upwards: below it, less often


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


@given(binary)
def test_a_comparison_turned_round_is_its_mirror(pairs):
    a, b = halves(pairs)
    one, other = compare(a, b, resamples=200), compare(b, a, resamples=200)
    assert (one.wins, one.losses, one.p) == (other.losses, other.wins, other.p)
    assert one.difference == pytest.approx(-other.difference)
    assert {"better": "worse", "worse": "better", "tie": "tie"}[one.verdict] == other.verdict


def test_the_words_need_p_and_a_difference_outside_the_band():
    a, b = [0] * 60 + [1] * 40, [1] * 20 + [0] * 40 + [1] * 40
    assert compare(a, b).verdict == "better"
    assert compare(b, a).verdict == "worse"
    assert compare(a, b, band=0.25).verdict == "tie"
    assert compare(a, b, level=1e-9).verdict == "tie"
    assert verdict(0.1, 0.05) == "better"
    assert verdict(0.1, 0.0501) == "tie"


def test_correction_takes_back_words_that_many_comparisons_do_not_bear():
    a = [0] * 50 + [1] * 50
    b = [1] * 7 + [0] * 43 + [1] * 49 + [0]
    one = compare(a, b)
    assert one.p == pytest.approx(0.0703125)
    assert one.verdict == "tie"
    clear = compare(a, [1] * 8 + [0] * 42 + [1] * 50)
    assert clear.verdict == "better"
    both = corrected([clear] * 20)
    assert {found.verdict for found in both} == {"tie"}
    assert both[0].p == pytest.approx(20 * clear.p)
    assert corrected([clear])[0] == clear


def test_scores_between_right_and_wrong_are_compared_by_permutation():
    rng = np.random.default_rng(2)
    a = rng.random(300)
    b = np.clip(a + rng.normal(0.05, 0.1, 300), 0, 1)
    found = compare(a, b)
    assert found.verdict == "better"
    assert found.p < 0.001
    assert found.interval[0] < found.difference < found.interval[1]


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [([1], [1, 0], "1 and 2 scores"), ([], [], "at least one problem"), ([1.0, math.nan], [1, 0], "some are missing")],
)
def test_missing_is_not_zero(a, b, says):
    for test in (mcnemar_exact, paired_bootstrap, sign_flip, compare):
        with pytest.raises(ValueError, match=says):
            test(a, b)


@given(binary)
def test_an_arm_against_its_control_is_better_where_it_scores_higher_or_costs_less(pairs):
    control, own = halves(pairs)
    assert against_control(control, own) == compare(control, own)
    costs = [[-float(score) for score in scores] for scores in (control, own)]
    told, cheaper = compare(control, own), against_control(*costs, lower_is_better=True)
    assert (cheaper.wins, cheaper.losses, cheaper.difference) == (told.wins, told.losses, told.difference)
