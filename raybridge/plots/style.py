"""How every figure looks: one column wide, readable in grey, the same colour and marker for an arm everywhere."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from raybridge import arms
from raybridge.arms.arm import BLACK, BLUE, GREEN, ORANGE, PLAIN_LOOK, PURPLE, SKY, VERMILLION
from raybridge.plots.fitting import LINE, LINES, fit, fits
from raybridge.plots.names import fitted

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
SEED = 2.4  # size of the point of a seed


def arm_look(label: str) -> dict[str, Any]:
    """Colour, line and marker of an arm, hardened or not; a plain look for one that this version does not have."""
    arm = arms.known(label)
    return dict(PLAIN_LOOK if arm is None else arm.look)


def words(name: str) -> str:
    """An arm's label or a loss's name as a reader sees it: token_budget is token budget, info_nce is InfoNCE."""
    label = arms.parse(name)
    return LOSSES.get(name) or str(replace(label, arm=label.arm.replace("_", " ")))


def legend(figure: Figure, axes: Iterable[Axes], *, ncols: int, first: Iterable[str] = ()) -> None:
    """One legend above all axes, no wider than the page: each name once, those in `first` before the others."""
    found = {
        name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True) if name[:1] != "_"
    }
    ahead = [name for name in first if name in found]
    order = [*ahead, *(name for name in found if name not in ahead)]
    if not order:
        return
    wanted = columns = min(ncols, len(order))
    drawn = _legend(figure, [found[name] for name in order], order, columns)
    while columns > 1 and drawn.get_window_extent().width > figure.bbox.width:
        drawn.remove()
        columns -= 1
        drawn = _legend(figure, [found[name] for name in order], order, columns)
    texts = drawn.get_texts()
    widest = max(one.get_window_extent().width for one in texts)
    room = figure.bbox.width - (drawn.get_window_extent().width - widest)
    told = fitted(order, [fits(one, room) for one in texts], LINES)
    for text, name in zip(texts, told, strict=True):
        text.set_text(name)
    lines = -(-len(order) // columns) - -(-len(order) // wanted) + sum(name.count("\n") for name in told)
    figure.set_figheight(figure.get_figheight() + LINE * lines)


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], columns: int) -> Legend:
    place: dict[str, Any] = {"loc": "outside upper center", "columnspacing": 1, "handletextpad": 0.4, "borderaxespad": 0}
    return figure.legend(handles, names, ncols=columns, **place)


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


def pictures(
    draw: Callable[[Figure], None], height: float, *, about: Mapping[str, str], formats: Iterable[str]
) -> dict[str, bytes]:
    """A figure as files, by format. The same figure gives the same bytes: no date, no random names."""
    with rc_context(RC):
        page = laid_out(draw, height)
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


def laid_out(draw: Callable[[Figure], None], height: float) -> Figure:
    """A figure with every text whole inside it, and its axes placed for good. Higher than `height` where its texts break."""
    page = Figure(figsize=(COLUMN, height))
    page.set_layout_engine("constrained", rect=(0, 0, 1, 1 - TOP / height))
    draw(page)
    fit(page)
    _settle(page)
    return page


def _settle(page: Figure) -> None:
    """Place the axes for good. The solver's last digits vary; the file's must not."""
    page.draw_without_rendering()
    page.set_layout_engine("none")
    for ax in page.axes:
        left, bottom, width, height = (round(edge, 5) for edge in ax.get_position().bounds)
        ax.set_position((left, bottom, width, height))
