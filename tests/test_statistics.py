from __future__ import annotations

import gc
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
    against_control,
    compare,
    corrected,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_bootstrap,
    ratio_interval,
    sign_flip,
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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_agrees_with_statsmodels(ps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)  # statsmodels collects all garbage of the process in every call
        theirs = list(multipletests(ps, method="holm")[1])
    assert holm(ps) == pytest.approx(theirs, abs=1e-12)


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
