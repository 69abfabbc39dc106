"""A bench's report: its head and a row a way, as a table and as JSON. Every figure in it is computed from what was timed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from bench.turns import Timed
from raybridge.console import print_table


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        return cls(median=median(values), least=min(values), most=max(values)) if values else None

    def told(self) -> str:
        """As a person reads it."""
        return f"{_number(self.median)} ({_number(self.least)}–{_number(self.most)})"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way. share: of what the card allows; None where it is not counted. ratio: times as fast as the plain way."""

    way: str
    problems_per_second: Spread | None
    tokens_per_second: Spread | None
    milliseconds: float | None
    share: float | None
    peak_bytes: int | None
    ratio: float | None
    failed: str
    seconds: list[float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """step: what takes the milliseconds that are told. share: what the share is of. notes: what else was computed, in words."""

    bench: str
    head: dict[str, Any]
    step: str
    share: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)


def rows_of(seen: Sequence[Timed], *, most: float | None, by: Literal["problems", "tokens"]) -> list[Row]:
    """A row for each way. most: of what `Work.useful` counts, a second, as the card can. by: what ratios are of, a second."""
    by_name = {one.way.name: one for one in seen}
    return [_row(one, by_name.get(one.way.beside), most, by) for one in seen]


def _row(one: Timed, plain: Timed | None, most: float | None, by: str) -> Row:
    rates = {count: one.rates(count) for count in ("problems", "tokens")}
    useful = one.rates("useful")
    ratio = None
    if plain is not None and plain.seconds and one.seconds:
        ratio = median(rates[by]) / median(plain.rates(by))
    return Row(
        way=one.way.name,
        problems_per_second=Spread.of(rates["problems"]),
        tokens_per_second=Spread.of(rates["tokens"]),
        milliseconds=None if one.step is None else 1e3 * one.step,
        share=median(useful) / most if useful and most else None,
        peak_bytes=one.peak,
        ratio=ratio,
        failed=one.failed,
        seconds=one.seconds,
    )


def printed(report: Report, console: Console) -> None:
    """The head in lines, then the table."""
    facts = report.head
    versions = ", ".join(f"{name} {number or 'unknown'}" for name, number in facts["versions"].items())
    measured = (
        f"copies {facts['copied_bytes_per_second'] / 1e12:.3g} TB/s, multiplies "
        f"{facts['product_flop_per_second'] / 1e12:.3g} TFLOP/s in {facts['precision']}"
    )
    told = {"copied_bytes_per_second", "product_flop_per_second", "versions", "precision", "commit", "device", "scale"}
    others = ", ".join(f"{name} {value}" for name, value in facts.items() if name not in told)
    for line in (
        f"{report.bench} at {facts['scale']} on {facts['device']}: {measured}",
        others,
        f"commit {facts['commit']}; {versions}",
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    print_table(console, table_of(report))
    for note in report.notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)


def table_of(report: Report) -> Table:
    """Median, and in brackets least and most."""
    table = Table(title_justify="left")
    table.add_column("way")
    shares = [report.share] if any(row.share is not None for row in report.rows) else []
    for heading in ("problems/s", "tokens/s", f"ms {report.step}", *shares, "peak GiB", "ratio"):
        table.add_column(heading, justify="right")
    for row in report.rows:
        table.add_row(
            row.way,
            row.failed or _told(row.problems_per_second, Spread.told),
            _told(row.tokens_per_second, Spread.told),
            _told(row.milliseconds, _number),
            *([_told(row.share, lambda share: f"{share:.1%}")] if shares else []),
            _told(row.peak_bytes, lambda size: f"{size / 2**30:.1f}"),
            _told(row.ratio, lambda ratio: f"{ratio:.2f}"),
        )
    return table


def _told(value: Any, how: Callable[[Any], str]) -> str:
    return "" if value is None else how(value)


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
