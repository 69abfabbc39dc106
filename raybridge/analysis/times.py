"""Times of answers: medians over the problems that were timed one by one, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

TIMED = 20  # problems whose times were taken apart, before these say anything


def median_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float, float]:
    """Median and the ends of its interval, of what was measured; ends are NaN below six values, which have none at 95%.

    Exact whatever the distribution: between two of the values in their order lies the true median unless as many fair coins
    fall more unevenly.
    """
    from scipy.special import bdtr

    ordered = np.sort([one for one in values if not math.isnan(one)])
    n = len(ordered)
    if not n:
        return math.nan, math.nan, math.nan
    beyond = sum(bool(bdtr(count, n, 0.5) <= (1 - level) / 2) for count in range(n // 2))  # values left out at either end
    low, high = (ordered[beyond - 1], ordered[n - beyond]) if beyond else (math.nan, math.nan)
    return float(np.median(ordered)), float(low), float(high)
