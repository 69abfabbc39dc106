"""Rows in parts that are passed one after another: of like length, so that little is padded, and no larger than fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def by_length(lengths: Sequence[int], *, start: int) -> list[list[int]]:
    """Row numbers in parts of like length, so that passing them apart and padding each to its longest costs least.

    start: what one more pass costs, in positions. At 0 no row is padded.
    """
    order = np.argsort(lengths, kind="stable")
    padded = np.asarray(lengths)[order]
    count = len(order)
    least = np.zeros(count + 1)
    cut = np.zeros(count + 1, dtype=int)
    for end in range(1, count + 1):  # the cheapest way to pass the `end` shortest rows
        costs = least[:end] + (end - np.arange(end)) * padded[end - 1] + start
        cut[end] = costs.argmin()
        least[end] = costs[cut[end]]
    parts, end = [], count
    while end:
        parts.append(sorted(order[cut[end] : end].tolist()))
        end = cut[end]
    return parts[::-1]


def that_fit(lengths: Sequence[int], *, new: int = 0, bytes_a_position: float = 1, free: float) -> list[list[int]]:
    """Row numbers in parts of like length, each of which, padded to its longest, fits into the bytes that are free.

    new: positions that every row gets besides. A row that fits nowhere stands alone.
    """
    order = np.argsort(lengths, kind="stable").tolist()
    parts = []
    while order:
        count = int(free // ((lengths[order[-1]] + new) * bytes_a_position or 1))
        parts.append(sorted(order[-max(count, 1) :]))
        del order[-max(count, 1) :]
    return parts[::-1]
