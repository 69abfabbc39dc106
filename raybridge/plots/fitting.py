"""A figure in which nothing is cut: its texts break or shorten where they stand, and the page grows by what they take.

Room is measured in pixels of the drawn figure. A title has it from its panel's left edge to the next panel, a label of an axis
about its middle, names beside an axis a share of the page; of names under an axis those stay that have room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis, YAxis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from raybridge.plots.names import Fits, fitted

LINES = 2  # of a title or a label
BESIDE = 0.42  # of the page's width for names beside an axis
LINE = 0.115  # inches that a line of text takes
REPEATED, SLACK = 16, 1.01  # of a character, to measure it; of a line, for what characters take side by side
EDGE = 2.0  # pixels left free
WIDTHS: dict[tuple[Any, ...], dict[str, float]] = {}  # of characters, by what text they are measured in: pixels


def fit(page: Figure) -> None:
    """Break and shorten the texts of a figure until all are whole inside it; its panels keep their height."""
    titles = [(ax, one, one.get_text()) for ax in page.axes for one in _titles(ax) if one.get_text()]
    labels = [(axis, axis.label.get_text()) for ax in page.axes for axis in (ax.xaxis, ax.yaxis) if axis.label.get_text()]
    before, height = _lines(page), page.get_figheight()
    for ax in page.axes:
        _fit_names(ax, page)
    for laid in (False, True):  # before the first layout as well: whole, names leave a panel no room at all
        engine = page.get_layout_engine()
        if laid and engine is not None:
            engine.execute(page)
        _fit_titles(titles, page)
        for axis, label in labels:
            _fit_label(axis, label, page)
        page.set_figheight(height + LINE * max(_lines(page) - before, 0))
    for ax in page.axes:
        _thin(ax)


def fits(text: Text, room: float, *, upright: bool = False) -> Fits:
    """Whether a line that is set as this text has its room; the text itself stays. A line is as wide as its characters."""
    kept, font, page = text.get_text(), text.get_fontproperties().copy(), text.get_figure(root=True)
    assert page is not None, "a text that is not on a page has no size"
    widths = WIDTHS.setdefault((font, text.get_rotation(), page.dpi, text.get_visible(), upright), {})

    def extent(line: str) -> float:
        text.set_text(line)
        box = text.get_window_extent()
        text.set_text(kept)
        return float(box.height if upright else box.width)

    def width(character: str) -> float:
        return (extent(f"x{character * REPEATED}x") - extent("xx")) / REPEATED  # between others: a blank has width as well

    def has_room(line: str) -> bool:
        for character in line:
            if character not in widths:
                widths[character] = width(character)
        return SLACK * sum(widths[character] for character in line) <= room

    return has_room


def _lines(page: Figure) -> int:
    """Lines of text over and under the panels: in each row of panels the most."""
    rows: dict[int, int] = {}
    for ax in page.axes:
        place = ax.get_subplotspec()
        row = place.rowspan.start if place else 0
        rows[row] = max(rows.get(row, 0), max(map(_count, _titles(ax))) + _count(ax.xaxis.label))
    return sum(rows.values())


def _count(text: Text) -> int:
    return text.get_text().count("\n") + 1 if text.get_text() else 0


def _titles(ax: Axes) -> list[Text]:
    """The titles of a panel: of its middle, its left and its right."""
    return [one for one in ax.get_children() if isinstance(one, Text) and one not in ax.texts]


def _fit_titles(titles: Sequence[tuple[Axes, Text, str]], page: Figure) -> None:
    """Titles are shortened together: they are told apart by what they keep."""
    measured = []
    for ax, one, _ in titles:
        left, right = ax.bbox.x0, _next(ax, page, EDGE)
        if one.get_horizontalalignment() == "center":
            middle = (ax.bbox.x0 + ax.bbox.x1) / 2
            left, right = middle - min(middle, right - middle), middle + min(middle, right - middle)
        measured.append(fits(one, right - left))
    for (_, one, _), told in zip(titles, fitted([title for *_, title in titles], measured, LINES), strict=True):
        one.set_text(told)


def _fit_names(ax: Axes, page: Figure) -> None:
    """Names beside an axis, which the panel would lose its room to. Numbers that matplotlib chose are short."""
    labels = [one for one in ax.get_yticklabels() if one.get_visible()]
    names = [one.get_text() for one in labels]
    if not isinstance(ax.yaxis.get_major_locator(), FixedLocator) or not any(names):
        return
    room = fits(labels[0], BESIDE * page.bbox.width)
    told = fitted(names, [room] * len(names), LINES)
    if told != names:
        ax.set_yticks(ax.get_yticks(), told)


def _thin(ax: Axes) -> None:
    """Names under an axis that would stand on one another: the tick stays, its name goes."""
    labels = [one for one in ax.get_xticklabels() if one.get_visible() and one.get_text()]
    if not isinstance(ax.xaxis.get_major_locator(), FixedLocator):
        return
    places = sorted((one.get_window_extent().x0, one.get_window_extent().x1, number) for number, one in enumerate(labels))
    kept: list[int] = []
    free = float("-inf")
    for left, right, number in places:
        if left > free:
            kept.append(number)
            free = right + EDGE
    if len(kept) < len(labels):
        names = [one.get_text() if number in kept else "" for number, one in enumerate(labels)]
        ax.set_xticks(ax.get_xticks(), names)


def _fit_label(axis: Axis, label: str, page: Figure) -> None:
    """The label of an axis: as long as twice the way from the axis' middle to where another's room or the page ends."""
    ax, upright = axis.axes, isinstance(axis, YAxis)
    assert isinstance(ax, Axes)
    low, high = (ax.bbox.y0, ax.bbox.y1) if upright else (ax.bbox.x0, ax.bbox.x1)
    before, behind = _between(ax, page, upright=upright)
    middle = (low + high) / 2
    room = 2 * min(middle - before, behind - middle) - 2 * EDGE
    (told,) = fitted([label], [fits(axis.label, room, upright=upright)], LINES)
    axis.label.set_text(told)


def _next(ax: Axes, page: Figure, free: float) -> float:
    """Where the panel at the right begins, or the page ends."""
    others = [one.bbox.x0 for one in page.axes if one.bbox.x0 > ax.bbox.x1 - EDGE and _beside(one, ax)]
    return min([*others, page.bbox.x1]) - free


def _between(ax: Axes, page: Figure, *, upright: bool) -> tuple[float, float]:
    """Midway to the panels before and behind in a direction, or the edges of the page."""
    low, high = ("y0", "y1") if upright else ("x0", "x1")
    others = [one for one in page.axes if one is not ax and _beside(one, ax, upright=upright)]
    mine = getattr(ax.bbox, low), getattr(ax.bbox, high)
    before = [getattr(one.bbox, high) for one in others if getattr(one.bbox, high) <= mine[0] + EDGE]
    behind = [getattr(one.bbox, low) for one in others if getattr(one.bbox, low) >= mine[1] - EDGE]
    first = (max(before) + mine[0]) / 2 if before else getattr(page.bbox, low)
    last = (min(behind) + mine[1]) / 2 if behind else getattr(page.bbox, high)
    return first, last


def _beside(one: Axes, other: Axes, *, upright: bool = False) -> bool:
    """Whether two panels stand in one row, or, upright, in one column."""
    low, high = ("x0", "x1") if upright else ("y0", "y1")
    return bool(getattr(one.bbox, low) < getattr(other.bbox, high) and getattr(other.bbox, low) < getattr(one.bbox, high))
