"""Intervals, paired tests and the words that follow from them: better, worse, tie.

Two arms are always compared on the same problems, which takes their difficulty out of the difference (Miller 2024,
arXiv:2411.00640): `a` and `b` hold one score a problem, in the same order, and every difference is b minus a. No
interval is a mean plus or minus standard errors, which fails below a few hundred problems (Bowyer et al. 2025,
arXiv:2503.01747): they are Wilson's or bootstraps, and the tests are exact or by permutation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Verdict = Literal["better", "worse", "tie"]
RESAMPLED_AT_ONCE = 2**21  # scores in memory while resampling: 16 MB
RESAMPLES = 2_000  # of intervals over problems whose weights are drawn once
ENOUGH_SEEDS = 3  # for an interval over seeds: of two, Student's t is 12.7


def wilson(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of an accuracy."""
    from scipy.special import ndtri  # here, for a command that draws one figure should not wait for scipy

    _check_level(level)
    if n < 1:
        raise ValueError("an accuracy over no problems has no interval")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} problems is no count")
    share, z = correct / n, ndtri(0.5 + 0.5 * level)
    scale = 2 * (n + z**2)
    center, half = (2 * n * share + z**2) / scale, z / scale * math.sqrt(4 * n * share * (1 - share) + z**2)
    return float(center - half) if correct else 0.0, float(center + half) if correct < n else 1.0


def mcnemar_exact(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided exact McNemar p of right or wrong (1 or 0): a binomial test on the problems that one of the two got right."""
    wins, losses = _discordant(a, b)
    return min(1.0, 2 * _at_most(min(wins, losses), wins + losses))


def fall(peak: ArrayLike, later: ArrayLike, *, looks: int) -> float:
    """p of a fall from the best of several evaluations to a later one, of right or wrong: one-sided exact McNemar, corrected.

    A maximum is above its own truth, so any later evaluation looks worse than it. Every pair of the `looks` evaluations may
    turn out to be the peak and the fall: p is that of the pair times their number (Bonferroni). Where accuracy never
    changes it reaches a level with no more than that probability, however alike two evaluations answer.
    """
    wins, losses = _discordant(peak, later)
    return min(1.0, pairs(looks) * _at_most(wins, wins + losses))


def pairs(looks: int) -> int:
    """How many pairs of an earlier and a later one so many evaluations are."""
    return looks * (looks - 1) // 2


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(b) - mean(a) over resampled problems."""
    _check_level(level)
    left, right = _paired(a, b)
    # Problems with the same difference are interchangeable: drawing how often each value occurs is drawing problems.
    values, counts = np.unique(right - left, return_counts=True)
    n = len(left)
    draws = np.random.default_rng(seed).multinomial
    at_once = max(1, RESAMPLED_AT_ONCE // len(values))
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    means = [draws(n, counts / n, size=size) @ values / n for size in sizes]
    return _ends(np.concatenate(means), level)


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of mean(numerator) / mean(denominator), one pair a problem, over resampled problems."""
    above, below = _paired(numerator, denominator)
    if len(above) < 2 or not below.mean():
        raise ValueError("a ratio of means needs at least two problems and a denominator that is not 0")
    draws = _resampled(len(above))
    return _ends((draws @ above) / (draws @ below), level)


def two_level_interval(
    scores: ArrayLike, *, minus: ArrayLike | None = None, over: ArrayLike | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Hierarchical bootstrap interval of a mean over seeds and problems, of a method and not of one checkpoint.

    scores: (S, n), a row for each of at least three seeds, on the same problems. minus: the same of what is taken from it, of
    seeds of its own. over: (n,), the mean of which divides both. Problems are resampled for all seeds at once, seeds beside
    them (Owen 2007). So few seeds spread less than those they are drawn from: their part is widened to Student's t.
    """
    mine = np.asarray(scores, dtype=float)
    other = np.zeros((1, mine.shape[1])) if minus is None else np.asarray(minus, dtype=float)
    below = np.ones(mine.shape[1]) if over is None else np.asarray(over, dtype=float)
    draws = _resampled(mine.shape[1])
    rng = np.random.default_rng(1)
    means = draws @ (mine.mean(0) - other.mean(0)) + _seeds_drawn(mine.mean(1), len(draws), level, rng)
    means = means if minus is None else means - _seeds_drawn(other.mean(1), len(draws), level, rng)
    return _ends(means / (draws @ below), level)


def sign_flip(a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided paired permutation p of mean(b) - mean(a), for scores that are not just right or wrong (such as F1)."""
    left, right = _paired(a, b)
    differences = (right - left)[right != left]
    if not len(differences):
        return 1.0
    observed = abs(differences.sum())
    rng = np.random.default_rng(seed)
    at_once = max(1, RESAMPLED_AT_ONCE // len(differences))
    as_extreme = 0
    for start in range(0, resamples, at_once):
        signs = rng.integers(2, size=(min(at_once, resamples - start), len(differences)), dtype=np.int8) * 2.0 - 1
        as_extreme += int((abs(signs @ differences) >= observed * (1 - 1e-12)).sum())
    return (as_extreme + 1) / (resamples + 1)  # the observed assignment is one of them, so p is never 0


def holm(ps: Sequence[float]) -> list[float]:
    """Holm-adjusted p values, in the order given: at most `level` of them are wrong with probability 1 - level."""
    values = np.asarray(ps, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values lie between 0 and 1, not {ps}")
    order = values.argsort(kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def minimum_detectable_effect(n: int, *, power: float = 0.8, level: float = 0.05, discordant: float = 0.5) -> float:
    """Smallest difference of two paired accuracies that n problems show at `level` with probability `power`.

    `discordant` is the share of problems that exactly one of the two gets right. It is not known before the run; 0.5 is
    its value for two unrelated arms of accuracy 0.5, the least favourable among unrelated arms. Normal approximation of
    McNemar's test (Connor 1987): sqrt(n) effect = z_level sqrt(discordant) + z_power sqrt(discordant - effect^2).
    inf: n problems cannot show any difference that `discordant` admits.
    """
    from scipy.special import ndtri

    _check_level(level)
    _check_level(power)
    if n < 1 or not 0 < discordant <= 1:
        raise ValueError(f"n must be at least 1 and discordant in 0..1, not {n} and {discordant}")
    z_level, z_power = float(ndtri(1 - level / 2)), float(ndtri(power))
    # With effect = sqrt(discordant) sin(angle) it is one sine: z_level = hypot(sqrt(n), z_power) sin(angle - phase).
    longest, phase = math.hypot(math.sqrt(n), z_power), math.atan2(z_power, math.sqrt(n))
    if z_level > longest or (angle := math.asin(z_level / longest) + phase) > math.pi / 2:
        return math.inf
    effect = math.sqrt(discordant) * math.sin(angle)
    return effect if effect <= discordant else math.inf


def aa_band(*replicates: Sequence[float], level: float = 0.95) -> float | None:
    """The A/A band: how far apart two trials that differ in their seed alone lie with probability `level`.

    Each argument holds the scores of one group of replicates; their variance is pooled. t times sqrt(2) times the pooled
    standard deviation. None where it cannot be estimated: without two scores in a group, and from two scores in all, where t
    is 12.7 and the band would say nothing. Not knowing the spread is not knowing it to be 0.
    """
    from scipy.special import stdtrit

    _check_level(level)
    groups = [np.asarray(scores, dtype=float) for scores in replicates if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in groups)
    if freedom < 2:
        return None
    variance = sum(float(((scores - scores.mean()) ** 2).sum()) for scores in groups) / freedom
    return float(stdtrit(freedom, (1 + level) / 2) * math.sqrt(2 * variance))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`b` against `a` on the same n problems. wins: problems where b scored higher."""

    n: int
    difference: float
    interval: tuple[float, float]
    p: float
    wins: int
    losses: int
    verdict: Verdict


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    level: float = 0.05,
    band: float | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare b with a, problem by problem: exact McNemar p where scores are 0 or 1, else a paired permutation p.

    A difference inside the A/A `band` is a tie whatever its p.
    """
    left, right = _paired(a, b)
    difference = float(right.mean() - left.mean())
    p = mcnemar_exact(a, b) if _binary(left, right) else sign_flip(a, b, resamples=resamples, seed=seed)
    return Comparison(
        n=len(left),
        difference=difference,
        interval=paired_bootstrap(a, b, resamples=resamples, seed=seed, level=1 - level),
        p=p,
        wins=int((right > left).sum()),
        losses=int((right < left).sum()),
        verdict=verdict(difference, p, level=level, band=band),
    )


def against_control(control: ArrayLike, own: ArrayLike, *, lower_is_better: bool = False) -> Comparison:
    """An arm against the control that should fail, on the same problems: "better" shows that something came across.

    lower_is_better: of measures such as NLL; the difference is then how much more the control costs.
    """
    return compare(own, control) if lower_is_better else compare(control, own)


def corrected(comparisons: Sequence[Comparison], *, level: float = 0.05, band: float | None = None) -> list[Comparison]:
    """The same comparisons with Holm-adjusted p and the verdicts that these leave standing."""
    ps = holm([one.p for one in comparisons])
    return [
        replace(one, p=p, verdict=verdict(one.difference, p, level=level, band=band))
        for one, p in zip(comparisons, ps, strict=True)
    ]


def picked(one: Comparison, *, looks: int, level: float = 0.05) -> Comparison:
    """A comparison of two evaluations that were picked among `looks` of one trial: p times their pairs, as for a `fall`."""
    return corrected([replace(one, p=min(1.0, one.p * pairs(looks)))], level=level)[0]


def verdict(difference: float, p: float, *, level: float = 0.05, band: float | None = None) -> Verdict:
    """The word for a difference: a tie unless p reaches the level and the difference leaves the A/A band."""
    if p > level or abs(difference) <= (band or 0.0):
        return "tie"
    return "better" if difference > 0 else "worse"


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(f"a paired test needs the same problems on both sides, not {left.size} and {right.size} scores")
    if not left.size:
        raise ValueError("a paired test needs at least one problem")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("a paired test needs a score for every problem: some are missing")
    return left, right


@lru_cache(maxsize=2)
def _resampled(n: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """(resamples, n): the weight of each problem in each resample; a row sums to 1."""
    return np.random.default_rng(0).multinomial(n, [1 / n] * n, size=resamples) / n


def _seeds_drawn(means: NDArray[np.float64], resamples: int, level: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """How far the mean of as many seeds, drawn from these, lies from theirs."""
    from scipy.special import ndtri, stdtrit

    seeds = len(means)
    if seeds < ENOUGH_SEEDS:
        raise ValueError(f"an interval over seeds needs at least {ENOUGH_SEEDS} of them, not {seeds}")
    upper = (1 + level) / 2
    wider = float(stdtrit(seeds - 1, upper) / ndtri(upper)) * math.sqrt(seeds / (seeds - 1))
    return wider * (means - means.mean())[rng.integers(seeds, size=(resamples, seeds))].mean(1)


def _ends(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _discordant(a: ArrayLike, b: ArrayLike) -> tuple[int, int]:
    """Problems that b alone got right, and those that a alone got right."""
    left, right = _paired(a, b)
    if not _binary(left, right):
        raise ValueError("McNemar's test is for scores of 0 and 1; `compare` tests other scores by permutation")
    return int((right > left).sum()), int((right < left).sum())


def _at_most(successes: int, n: int) -> float:
    """Probability of at most so many heads of n fair coins."""
    from scipy.special import bdtr

    return float(bdtr(successes, n, 0.5)) if n else 1.0


def _binary(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return bool((((left == 0) | (left == 1)) & ((right == 0) | (right == 1))).all())


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a level or power must lie between 0 and 1, not {level}")
