"""What a number of problems can show, said before they are asked (Miller 2024, arXiv:2411.00640, section 5)."""

from __future__ import annotations

import math

from raybridge.statistics import minimum_detectable_effect

DISCORDANT = 0.2  # share of problems that one alone of two trained bridges gets right: what sweeps so far have had
POWER = 0.8


def could_show(n: int) -> str:
    """The difference of two accuracies that n problems show with a probability of 80%, in a sentence for a plan."""
    effect = minimum_detectable_effect(n, power=POWER, discordant=DISCORDANT)
    where = f"{n:,} test problems, of which two trials answer {DISCORDANT:.0%} differently"
    if effect == math.inf:
        return f"{where}, can show no difference"
    points = math.ceil(1000 * effect) / 10  # upwards: what lies below it is shown less often
    return f"{where}, show a difference of {points:.1f} points with a probability of {POWER:.0%}, smaller ones less often"
