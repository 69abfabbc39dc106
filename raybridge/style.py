"""How every figure looks: one column wide, readable in grey, the same colour and marker for an arm everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes

COLUMN = 3.3  # inches: one column of a two-column paper

# Okabe and Ito's colours, which colour-blind readers tell apart; line styles and markers tell them apart in grey.
BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY, BLACK = "#7F7F7F", "#000000"

RC: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.5,
    "svg.hashsalt": "raybridge",
}

# One look for each arm and control. Controls are dashed or dotted: they should fail.
ARMS: dict[str, dict[str, Any]] = {
    "source": {"color": ORANGE, "linestyle": "-.", "marker": "v"},
    "target": {"color": BLACK, "linestyle": "-", "marker": "s"},
    "bridged": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "bridged_with_text": {"color": SKY, "linestyle": "-", "marker": "D"},
    "token_budget": {"color": GREEN, "linestyle": "-.", "marker": "^"},
    "cascade": {"color": PURPLE, "linestyle": "-.", "marker": "P"},
    "source_answer_as_text": {"color": PURPLE, "linestyle": ":", "marker": "p"},
    "joint": {"color": SKY, "linestyle": "-.", "marker": "*"},
    "shuffled": {"color": VERMILLION, "linestyle": "--", "marker": "x"},
    "zero": {"color": GREY, "linestyle": "--", "marker": "+"},
    "random": {"color": GREY, "linestyle": ":", "marker": "1"},
    "mean": {"color": GREY, "linestyle": "-.", "marker": "2"},
    "no_context": {"color": GREY, "linestyle": ":", "marker": "|"},
}
CONTROLS = ("shuffled", "zero", "random", "mean", "no_context")

# Looks for things that are told apart without being arms, such as trials in one panel.
LOOKS: list[dict[str, Any]] = [
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": VERMILLION, "linestyle": "--", "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": PURPLE, "linestyle": ":", "marker": "D"},
    {"color": ORANGE, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": SKY, "linestyle": (0, (1, 2)), "marker": "P"},
    {"color": BLACK, "linestyle": (0, (7, 2)), "marker": "x"},
]


def arm_look(arm: str) -> dict[str, Any]:
    """Colour, line and marker of an arm; grey for one that has no look of its own."""
    return ARMS.get(arm, {"color": GREY, "linestyle": ":", "marker": "."})


def words(name: str) -> str:
    """A name as a reader sees it: token_budget is token budget."""
    return name.replace("_", " ")


def points(
    ax: Axes,
    x: Iterable[float],
    y: Iterable[float],
    low: Iterable[float],
    high: Iterable[float],
    *,
    look: dict[str, Any],
    across: bool = False,
    hollow: bool = False,
) -> None:
    """Points with their intervals, on y or, `across`, on x; joined by the look's line if it has one."""
    xs, ys = list(x), list(y)
    value = xs if across else ys
    ends = [[max(v - a, 0) for v, a in zip(value, low, strict=True)], [max(b - v, 0) for v, b in zip(value, high, strict=True)]]
    extra: dict[str, Any] = {"xerr" if across else "yerr": ends}
    if hollow:
        extra["markerfacecolor"] = "white"
    ax.errorbar(xs, ys, elinewidth=0.8, **extra, **look)


def n_of(numbers: Iterable[Any]) -> str:
    """How many problems, for a caption: "n = 200" or "n = 200 to 1319"."""
    counts = sorted(int(number) for number in numbers)
    return f"n = {counts[0]}" if counts[0] == counts[-1] else f"n = {counts[0]} to {counts[-1]}"


def seeds_of(numbers: Iterable[Any]) -> str:
    """How many seeds, for a caption: "1 seed" or "1 to 3 seeds"."""
    counts = sorted(int(number) for number in numbers)
    many = "seed" if counts[-1] == 1 else "seeds"
    return f"{counts[0]} {many}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} {many}"
