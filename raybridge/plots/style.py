"""How every figure looks: one column wide, readable in grey, the same colour and marker for an arm everywhere."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from raybridge import arms
from raybridge.arms.arm import BLACK, BLUE, GREEN, ORANGE, PLAIN_LOOK, PURPLE, SKY, VERMILLION
from raybridge.statistics import ENOUGH_SEEDS

COLUMN = 3.3  # inches: one column of a two-column paper

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
    "text.parse_math": False,  # a dollar in a model's name is a dollar
}

ARMS: dict[str, Mapping[str, Any]] = {arm.name: arm.look for arm in arms.every()}  # those that were there at import
CONTROLS = tuple(arm.name for arm in arms.every() if arm.control)
LOSSES = {"info_nce": "InfoNCE", "text_kl": "text KL"}  # losses whose names are no plain words

# Looks for things that are told apart without being arms, such as trials in one panel.
LOOKS: list[dict[str, Any]] = [
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": ORANGE, "linestyle": (0, (4, 1.5)), "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": PURPLE, "linestyle": ":", "marker": "D"},
    {"color": VERMILLION, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": SKY, "linestyle": (0, (1, 2)), "marker": "P"},
    {"color": BLACK, "linestyle": (0, (7, 2)), "marker": "X"},
]
TEXT_LINE: dict[str, Any] = {"color": BLACK, "linewidth": 0.8, "linestyle": (0, (1, 1))}  # where the text itself stands
TOP = 0.04  # inches left free above
WIDE = 66  # characters that a legend may be wide
SEED = 2.4  # size of the point of a seed
FOLD = 18  # characters of a label beside an axis


def arm_look(label: str) -> dict[str, Any]:
    """Colour, line and marker of an arm, hardened or not; a plain look for one that this version does not have."""
    arm = arms.known(label)
    return dict(PLAIN_LOOK if arm is None else arm.look)


def words(name: str) -> str:
    """An arm's label or a loss's name as a reader sees it: token_budget is token budget, info_nce is InfoNCE."""
    label = arms.parse(name)
    return LOSSES.get(name) or str(replace(label, arm=label.arm.replace("_", " ")))


def folded(label: str) -> str:
    """A label beside an axis: a long one breaks after an underscore, so that the axis keeps its room."""
    label = elided(label)
    if len(label) <= FOLD:
        return label
    ends = [at + 1 for at, character in enumerate(label) if character in "_- " and at + 1 < len(label)]
    if not ends:
        return label
    middle = min(ends, key=lambda end: abs(end - len(label) / 2))
    return f"{label[:middle]}\n{label[middle:]}"


def elided(label: str, limit: int = WIDE) -> str:
    """A label of so many characters: of a longer one its beginning and its end."""
    return label if len(label) <= limit else f"{label[: limit // 2]}...{label[3 - limit // 2 :]}"


def legend(figure: Figure, axes: Iterable[Axes], *, ncols: int, first: Iterable[str] = ()) -> None:
    """One legend above all axes: each name once, those in `first` before the others."""
    found = {
        name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True) if name[:1] != "_"
    }
    ahead = [name for name in first if name in found]
    order = [*ahead, *(name for name in found if name not in ahead)]
    if order:
        columns = next(count for count in range(min(ncols, len(order)), 0, -1) if count == 1 or _width(order, count) <= WIDE)
        handles = [found[name] for name in order]
        figure.legend(
            handles,
            [elided(name) for name in order],
            loc="outside upper center",
            ncols=columns,
            columnspacing=1,
            handletextpad=0.4,
        )


def _width(names: Sequence[str], columns: int) -> int:
    """Characters that a legend of so many columns is wide, which are filled one after the other."""
    names = [elided(name) for name in names]
    sizes = [len(part) for part in np.array_split(np.array(names), columns)]
    ends = np.cumsum([0, *sizes])
    return sum(max(map(len, names[a:b])) + 7 for a, b in itertools.pairwise(ends))


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


def each_seed(ax: Axes, at: Iterable[float], by_seed: Iterable[str], *, look: dict[str, Any], across: bool = False) -> None:
    """Every seed as a small hollow point beside the mean; by_seed: as `over_seeds` has them, empty of one seed."""
    small = {"markersize": SEED, "markerfacecolor": "white", "markeredgecolor": look["color"], "markeredgewidth": 0.6}
    for place, numbers in zip(at, by_seed, strict=True):
        values = [float(one) for one in numbers.split()]
        xs, ys = (values, [place] * len(values)) if across else ([place] * len(values), values)
        ax.plot(xs, ys, "o", **small, zorder=4)


def log_ticks(ax: Axes) -> None:
    """A logarithmic y axis whose ticks can be read within one decade as well: 0.2, 0.5, 1."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _few(ax) and f"{value:e}"[0] in "25" else "")


def _few(ax: Axes) -> bool:
    """Whether a y axis spans so little that it may hold no two powers of ten."""
    low, high = ax.get_ylim()
    return high < 100 * low


def n_of(numbers: Iterable[Any]) -> str:
    """How many problems, for a caption: "n = 200" or "n = 200 to 1319"."""
    counts = sorted(int(number) for number in numbers)
    return f"n = {counts[0]}" if counts[0] == counts[-1] else f"n = {counts[0]} to {counts[-1]}"


def n_by_arm(rows: pd.DataFrame) -> str:
    """How many problems, for a caption; arms with another number than most are named: "n = 200 (mean: 32)"."""
    told = {_n_of_one(part): _n_of_one(part, str(evaluator)) for evaluator, part in rows.groupby("evaluator")}
    return next(iter(told)) if len(told) == 1 else ", ".join(told.values())


def _n_of_one(rows: pd.DataFrame, *notes: str) -> str:
    usual = int(rows["n"].mode().max())
    others = {int(part["n"].iloc[0]): part["arm"].unique() for _, part in rows[rows["n"] != usual].groupby("n")}
    told = [*notes, *(f"{', '.join(words(str(label)) for label in labels)}: {count}" for count, labels in others.items())]
    return f"n = {usual}" + (f" ({'; '.join(told)})" if told else "")


def seeds_of(numbers: Iterable[Any]) -> str:
    """How many seeds, for a caption: "1 seed" or "1 to 3 seeds"."""
    counts = sorted(int(number) for number in numbers)
    many = "seed" if counts[-1] == 1 else "seeds"
    return f"{counts[0]} {many}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]} {many}"


def intervals_of(numbers: Iterable[Any], of_one: str = "Wilson") -> str:
    """What bars show, for a caption, by how many seeds each configuration has. of_one: what intervals over problems are."""
    whole = [int(number) >= ENOUGH_SEEDS for number in numbers]
    two = "hierarchical bootstrap over seeds and problems"
    return f"95%, {two if all(whole) else f'{of_one} over the problems'}" + (
        f" ({two} from {ENOUGH_SEEDS} seeds on)" if any(whole) and not all(whole) else ""
    )


def pictures(
    draw: Callable[[Figure], None], height: float, *, about: Mapping[str, str], formats: Iterable[str]
) -> dict[str, bytes]:
    """A figure as files, by format. The same figure gives the same bytes: no date, no random names."""
    with rc_context(RC):
        page = Figure(figsize=(COLUMN, height))
        page.set_layout_engine("constrained", rect=(0, 0, 1, 1 - TOP / height))
        draw(page)
        for ax in page.axes:
            _fit_title(ax)
        _settle(page)
        by_format: dict[str, dict[str, str | None]] = {
            "pdf": {"Creator": "raybridge", "CreationDate": None},
            "png": {"Software": "raybridge"},
        }
        files = {}
        for kind in formats:
            content = io.BytesIO()
            page.savefig(content, format=kind, metadata={**about, **by_format[kind]})
            files[kind] = content.getvalue()
    return files


def _fit_title(ax: Axes) -> None:
    """A title no wider than its panel, which would lose its room to it."""
    place = ax.get_subplotspec()
    limit = WIDE // (place.get_gridspec().ncols if place else 1)
    for title in (one for one in ax.get_children() if isinstance(one, Text)):
        title.set_text("\n".join(elided(line, limit) for line in title.get_text().split("\n")))


def _settle(page: Figure) -> None:
    """Place the axes for good. The solver's last digits vary; the file's must not."""
    page.draw_without_rendering()
    page.set_layout_engine("none")
    for ax in page.axes:
        left, bottom, width, height = (round(edge, 5) for edge in ax.get_position().bounds)
        ax.set_position((left, bottom, width, height))
