"""What an evaluation says of its arms: each beside its control, as rows and as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from raybridge.analysis.kinds import bridge, control, control_of, is_a, own_tokens, textless
from raybridge.analysis.measures import gaps_recovered, shots_told, summarised
from raybridge.console import one_line
from raybridge.results.schema import COSTS
from raybridge.statistics import Comparison, against_control, corrected

WIRE_FORMATS = [column.removeprefix("wire_bytes_") for column in COSTS if column.startswith("wire_bytes_")]
COLLAPSED = 0.1  # distinct answers over distinct gold answers, below which an arm says nearly the same to everything


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Rows like those of evals.parquet with their control, gap recovered and collapse; and the comparisons behind them."""

    title: str
    readings: tuple[str, ...]
    rows: list[dict[str, Any]]
    comparisons: dict[str, Comparison]  # arm against its control, by the first reading, p Holm-corrected
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON: NaN is null."""
        compared = {arm: asdict(one) for arm, one in self.comparisons.items()}
        return {"of": self.title, "rows": [_plain(row) for row in self.rows], "against_control": compared, "notes": self.notes}


def scorecard(
    samples: pd.DataFrame,
    *,
    golds: int,
    evaluator: str,
    readings: Sequence[str],
    split: str,
    step: int,
    title: str,
    notes: Sequence[str] = (),
) -> Scorecard:
    """The card of sample rows, arm by arm in the order of the problems. golds: how many different answers these have."""
    arms = list(dict.fromkeys(samples["arm"]))
    scores = {str(arm): part[f"score_{readings[0]}"].tolist() for arm, part in samples.groupby("arm")}
    controls = {arm: control_of(arm, arms) for arm in arms}
    pairs = {arm: against_control(scores[beaten], scores[arm]) for arm, beaten in controls.items() if beaten}
    told = dict(zip(pairs, corrected(list(pairs.values())), strict=True))
    gaps = gaps_recovered(samples) if "nll" in samples else {}
    rows = []
    for row in summarised(samples, step=step, split=split, evaluator=evaluator, readings=readings):
        gap = gaps.get(row["arm"])
        distinct = row["unique_answers"] * row["n"]
        rows.append(
            {
                **row,
                "control": controls[row["arm"]],
                "gap_recovered": gap[0] if gap else None,
                "gap_low": gap[1] if gap else None,
                "gap_high": gap[2] if gap else None,
                "collapsed": bool(distinct < max(2, COLLAPSED * golds)),
            }
        )
    return Scorecard(title=title, readings=tuple(readings), rows=rows, comparisons=told, notes=[*notes, *_said(rows)])


def _said(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know before quoting the tables."""
    said = []
    collapsed = [row["arm"] for row in rows if row["collapsed"] and not is_a(row["arm"], control)]
    if collapsed:
        names = ", ".join(dict.fromkeys(collapsed))
        said.append(f"collapsed: {names} give nearly the same answer to every problem")
    if told := shots_told(row.get("shots") for row in rows):
        said.append(f"{told}; savings and compression are of the question alone")
    if any(is_a(row["arm"], bridge) for row in rows):
        said.append("one seed: the card is of this checkpoint; what another seed of its method would give it cannot say")
    soft = {row["arm"]: row for row in rows if is_a(row["arm"], textless)}
    counted = {arm: row for arm, row in soft.items() if None not in (row.get("question_tokens"), row["soft_tokens"])}
    flat = {arm: row["question_tokens"] / row["soft_tokens"] for arm, row in counted.items()}
    said += _flagged(flat, "question tokens over soft tokens")
    weighed = {arm: row for arm, row in counted.items() if row.get("wire_bytes") and row.get("question_bytes")}
    said += _flagged(
        {arm: row["question_bytes"] / row["wire_bytes"] for arm, row in weighed.items()}, "question bytes over wire bytes"
    )
    for row in list(weighed.values())[:1]:
        sizes = {form: size for form in WIRE_FORMATS if (size := row.get(f"wire_bytes_{form}"))}
        told = ", ".join(f"{form} {size:,.0f} B ({row['question_bytes'] / size:.3f}x)" for form, size in sizes.items())
        said.append(
            f"{row['soft_tokens']} soft tokens on the wire, scales and header counted: {told}; "
            f"a question as UTF-8: {row['question_bytes']:,.0f} B"
        )
    return said


def _flagged(ratios: Mapping[str, float], what: str) -> list[str]:
    """Ratios that are no compression."""
    flat = ", ".join(f"{ratio:.3f} ({arm})" for arm, ratio in ratios.items() if ratio <= 1)
    return [f"nothing is compressed: {what} {flat}"] if flat else []


Cell = Callable[[Mapping[str, Any]], str]


def tables(card: Scorecard) -> list[Table]:
    """Answers, form and cost: an arm a line, a dash where nothing was measured."""
    first = [row for row in card.rows if row["reading"] == card.readings[0]]
    others = {reading: {row["arm"]: row for row in card.rows if row["reading"] == reading} for reading in card.readings[1:]}
    answers: dict[str, Cell] = {
        card.readings[0]: _accuracy,
        **{reading: _other(rows) for reading, rows in others.items()},
        "control": lambda row: row["control"] or "-",
        "against it": lambda row: _against(card.comparisons.get(row["arm"])),
        "p": lambda row: f"{card.comparisons[row['arm']].p:.2g}" if row["arm"] in card.comparisons else "-",
        "verdict": lambda row: card.comparisons[row["arm"]].verdict if row["arm"] in card.comparisons else "-",
    }
    form: dict[str, Cell] = {
        "NLL": lambda row: _number(row.get("nll") if own_tokens(row["arm"]) else None, ".3f"),
        "bits a byte": lambda row: _number(row.get("bits_per_byte"), ".3f"),
        "gap recovered": lambda row: _number(row.get("gap_recovered"), ".2f"),
        "1st token": lambda row: _number(row.get("first_token_correct_rate"), ".3f"),
        "its entropy": lambda row: _number(row.get("first_token_entropy"), ".2f", " bits"),
        "invalid": lambda row: f"{row['invalid'] / row['n']:.1%}",
        "truncated": lambda row: _number(_times(row["truncated"], 1 / row["n"]), ".1%"),
        "no stop": lambda row: _number(row.get("no_stop_rate"), ".1%"),
        "unique answers": lambda row: f"{row['unique_answers']:.1%}",
        "": lambda row: "collapsed" if row["collapsed"] else "",
    }
    cost: dict[str, Cell] = {
        "prompt": lambda row: _number(row.get("prompt_tokens"), ".0f", " tok"),
        "soft": lambda row: _number(row["soft_tokens"] or math.nan, ".0f", " tok"),
        "written": lambda row: _number(row.get("generated_tokens"), ".0f", " tok"),
        "prompt as UTF-8": lambda row: _number(row.get("prompt_bytes"), ",.0f", " B"),
        "on the wire": lambda row: _number(row.get("wire_bytes"), ",.0f", " B"),
        "KV cache": lambda row: _number(row.get("kv_bytes"), ",.0f", " B"),
        "of the question": lambda row: _number(row.get("question_kv_bytes"), ",.0f", " B"),
        "batched": lambda row: _number(_times(row.get("latency_batched"), 1000), ",.1f", " ms"),
        "peak memory": lambda row: _number(_times(row.get("peak_bytes"), 2**-20), ",.0f", " MiB"),
    }
    time: dict[str, Cell] = {
        "alone": _time("latency_1"),
        "source": _time("prefill_source"),
        "translator": _time("prefill_translator"),
        "target": _time("prefill_target"),
        "a token": _time("seconds_a_token"),
    }
    timed = [row for row in first if row.get("latency_1") is not None]
    return [
        _table(first, answers, card.title),
        _table(first, form, "likelihood and form"),
        _table(first, cost, "cost"),
        *([_table(timed, time, "time in ms, one problem at a time: medians")] if timed else []),
    ]


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Cell], title: str) -> Table:
    table = Table(title=escape(one_line(title)), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    for column in columns:
        table.add_column(escape(one_line(column)), justify="left" if column in ("control", "verdict") else "right")
    for row in rows:
        table.add_row(
            escape(one_line(row["arm"])), *(escape(one_line(cell(row))) for cell in columns.values()), style=_style(row)
        )
    return table


def _style(row: Mapping[str, Any]) -> str | None:
    return "dim" if is_a(row["arm"], control) else None


def _accuracy(row: Mapping[str, Any]) -> str:
    return f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _other(rows: Mapping[str, Mapping[str, Any]]) -> Cell:
    """Accuracy by another reading, from its rows by arm."""
    return lambda row: f"{rows[row['arm']]['accuracy']:.3f}"


def _against(told: Comparison | None) -> str:
    if told is None:
        return "-"
    low, high = told.interval
    return f"{told.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None or math.isnan(value) else format(value, form) + unit


def _time(name: str) -> Cell:
    """A median time in ms with its interval, which too few problems have not."""

    def cell(row: Mapping[str, Any]) -> str:
        middle, low, high = (_number(_times(row.get(name + end), 1000), ",.1f") for end in ("", "_low", "_high"))
        return middle if low == "-" else f"{middle} [{low}, {high}]"

    return cell


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
