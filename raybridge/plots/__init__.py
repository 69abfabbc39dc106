"""How results look: what the files of plots/ import to draw a figure or set a table.

Arms come with their looks, in their order: `arms` and `kinds`, or ARMS, CONTROLS and `arm_look` at once. `Runs` is the view of
the results that a figure is given; axes, points and legends are those of every figure; `load` reads a file of plots/.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raybridge import arms
from raybridge.analysis import kinds
from raybridge.analysis.configurations import against_first, compressed, costs, own_on_test, per_problem, transfer
from raybridge.analysis.measures import interval_of, of_first_reading, shots_told, stacked
from raybridge.analysis.replicates import band_told
from raybridge.analysis.runs import Runs
from raybridge.analysis.seeds import gaps_by_seed, mean_gap, over_seeds
from raybridge.analysis.standings import standings
from raybridge.analysis.times import TIMED
from raybridge.arms.arm import BLACK, GREY
from raybridge.plots.captions import counted, few, intervals_of, n_by_arm, n_of, rest, seeds_of, without_control
from raybridge.plots.figures import load
from raybridge.plots.latex import Column
from raybridge.plots.names import elided
from raybridge.plots.style import (
    ARMS,
    COLUMN,
    CONTROLS,
    LOOKS,
    TEXT_LINE,
    arm_look,
    each_seed,
    legend,
    log_ticks,
    points,
    words,
)
from raybridge.results.schema import ATTENTION_BINS

__all__ = [
    "ARMS",
    "ATTENTION_BINS",
    "BLACK",
    "COLUMN",
    "CONTROLS",
    "GREY",
    "LOOKS",
    "TEXT_LINE",
    "TIMED",
    "Axes",
    "Column",
    "Figure",
    "Runs",
    "against_first",
    "arm_look",
    "arms",
    "band_told",
    "compressed",
    "costs",
    "counted",
    "each_seed",
    "elided",
    "few",
    "gaps_by_seed",
    "interval_of",
    "intervals_of",
    "kinds",
    "legend",
    "load",
    "log_ticks",
    "mean_gap",
    "n_by_arm",
    "n_of",
    "of_first_reading",
    "over_seeds",
    "own_on_test",
    "per_problem",
    "points",
    "rest",
    "seeds_of",
    "shots_told",
    "stacked",
    "standings",
    "transfer",
    "without_control",
    "words",
]
