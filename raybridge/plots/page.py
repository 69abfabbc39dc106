"""One self-contained HTML file: questions, tables, figures, examples, configs, provenance, cost and cautions."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.analysis import kinds
from raybridge.analysis.cautions import cautions
from raybridge.analysis.configurations import own_on_test
from raybridge.analysis.measures import of_first_reading
from raybridge.analysis.questions import problems_of
from raybridge.analysis.replicates import band_told
from raybridge.analysis.runs import Runs
from raybridge.analysis.standings import standings
from raybridge.analysis.sweeps import changes, costs, differences, origins, outcomes
from raybridge.data import Problem

HERE = Path(__file__)
STYLE, SCRIPT = (HERE.with_name(f"page.{kind}").read_text(encoding="utf8") for kind in ("css", "js"))
POLICY = "; ".join(  # nothing is fetched, and no script runs but ours
    [
        "default-src 'none'",
        "img-src data:",
        *(
            f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for kind, text in (("style", STYLE), ("script", SCRIPT))
        ),
    ]
)
READING = (
    "Means over the seeds. Test: accuracy by the first reading with its 95% interval, over the problems, and from three seeds "
    "on over seeds and problems. dev: of the checkpoint that is tested. Transfer: the arm that ranks a trial against "
    "the same with shuffled soft tokens, on the same test problems, paired, p Holm-corrected over the configurations. Gap "
    "recovered: share of the way from the NLL without the question to that of its text; what shuffled recovers too is not the "
    "question."
)
EXAMPLES = 3  # of each kind
LONG = 32  # characters of a cell that may take several lines
FOLDED = 8  # cautions of one kind before they are folded away


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure as the report shows it."""

    title: str
    png: bytes
    caption: str


def report(runs: Runs, figures: Sequence[Drawn], missing: Sequence[str]) -> str:
    """The whole page. `missing` says which figures have no data and what makes them."""
    parts = {
        "Cautions": said(lambda: caution_list(runs)),
        "Sweeps": "".join(sweep_section(runs, name) for name in _sweeps_of(runs)) or "<p>None.</p>",
        "Arms": said(lambda: arms_table(runs)),
        "Figures": figure_list(figures, missing),
        "Examples": said(lambda: example_list(runs)),
        "Cost": table_html(costs(runs)),
        "Provenance": table_html(origins(runs)),
        "Trials": "".join(trial_section(runs, trial) for trial in runs.trials.to_dict("records")),
    }
    below = {"Sweeps": _sweeps_of(runs), "Figures": [one.title.partition(":")[0] for one in figures]}
    links = "".join(
        _link(name.lower(), name) + "".join(_link(_place(name, one), one, "below") for one in below.get(name, ()))
        for name in parts
    )
    body = "".join(f'<h2 id="{name.lower()}">{name}</h2>{html}' for name, html in parts.items())
    count = f"{len(runs.trials)} trial{'s' if len(runs.trials) != 1 else ''}, {int(runs.trials['complete'].sum())} complete"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>raybridge report</title><style>{STYLE}</style></head><body><nav>{links}</nav><main><h1>raybridge report</h1>"
        f'<p class="quiet">{count}</p>{body}</main><script>{SCRIPT}</script></body></html>\n'
    )


def _sweeps_of(runs: Runs) -> list[str]:
    return [name for name in runs.plans if runs.sweep in (None, name)]


def _place(section: str, name: str) -> str:
    """The id of a part of a section."""
    return re.sub(r"[^a-z0-9]+", "-", f"{section} {name}".lower()).strip("-")


def _link(place: str, name: str, kind: str = "") -> str:
    return f'<a{f" class={kind}" if kind else ""} href="#{place}">{escape(name)}</a>'


def said(section: Callable[[], str]) -> str:
    """A section, or the sentence that says which file it could not read."""
    try:
        return section()
    except ValueError as error:
        return f'<p class="caution">{escape(str(error))}</p>'


def table_html(table: pd.DataFrame) -> str:
    """A table; numbers to the right, what is missing as a dash."""
    if table.empty:
        return '<p class="quiet">None.</p>'
    numeric = {column: pd.api.types.is_numeric_dtype(table[column]) for column in table}
    head = "".join(f"<th{' class=number' if numeric[column] else ''}>{escape(str(column))}</th>" for column in table)
    rows = "".join(
        "<tr>" + "".join(_td(cell(row[column]), number=numeric[column]) for column in table) + "</tr>"
        for row in table.to_dict("records")
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _td(text: str, *, number: bool) -> str:
    """A cell of a table; a long text may break, nothing else does."""
    kind = "number" if number else "long" if len(text) > LONG else ""
    return f"<td{f' class={kind}' if kind else ''}>{text}</td>"


def cell(value: Any) -> str:
    """A value as a reader sees it."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.3g}"
    return escape(str(value))


def caution_list(runs: Runs) -> str:
    """Every caution, by kind; a long list is folded away."""
    found = cautions(runs)
    html = []
    for kind, part in found.groupby("kind", sort=False):
        items = "".join(f"<li>{escape(row['trial'])}: {escape(row['sentence'])}</li>" for row in part.to_dict("records"))
        head = f"<b>{escape(str(kind))}</b>"
        if len(part) > FOLDED:
            head = f"<details><summary>{head}: {len(part)} cases</summary><ul>{items}</ul></details>"
        else:
            head += f"<ul>{items}</ul>"
        html.append(f'<div class="caution">{head}</div>')
    return "".join(html) or "<p>None found.</p>"


def sweep_section(runs: Runs, name: str) -> str:
    """A sweep's question, what came of its trials, and where its trials differ."""
    question = runs.results.sweep(name).question() or ""
    trials = runs.of_sweep(name)
    return (
        f'<h3 id="{_place("Sweeps", name)}">{escape(name)}</h3><p>{escape(question)}</p>'
        f"{said(lambda: table_html(outcomes(runs, trials)))}"
        f'<p class="quiet">{READING} {said(lambda: escape(band(runs, trials)))}</p>'
        f"<p>Where its trials differ:</p>{table_html(differences(runs, trials))}"
    )


def band(runs: Runs, trials: pd.DataFrame) -> str:
    """The A/A band of a sweep's trials on test in a sentence."""
    own = own_on_test(runs, set(trials["fingerprint"]))
    return f"{band_told(runs.band(own), own['group'].value_counts())}; without one, or inside it, a ranking is none."


def arms_table(runs: Runs) -> str:
    """Every arm of the configuration that was best on dev."""
    rows = standings(runs)
    if rows.empty:
        return table_html(rows)
    accuracy = [f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in rows.to_dict("records")]
    where = {"evaluator": "benchmark", "pair": "models", "label": "configuration"}
    told = {"arm": "arm", "test": "test", "nll": "NLL", "gap": "gap recovered", "bridge_is": "the bridge is", "n": "n"}
    return table_html(rows.assign(test=accuracy)[[*where, *told]].rename(columns=where | told))


def figure_list(figures: Sequence[Drawn], missing: Sequence[str]) -> str:
    """The figures above their captions, and those that have no data yet."""
    drawn = "".join(
        f'<figure id="{_place("Figures", one.title.partition(":")[0])}"><img alt="{escape(one.title)}" '
        f'src="data:image/png;base64,{base64.b64encode(one.png).decode()}">'
        f"<figcaption><b>{escape(one.title)}.</b> {escape(one.caption)}</figcaption></figure>"
        for one in figures
    )
    absent = "".join(f"<li>{escape(sentence)}</li>" for sentence in missing)
    drawn = f'<div class="figures">{drawn}</div>'
    return drawn + (f'<p class="quiet">Without data:</p><ul class="quiet">{absent}</ul>' if absent else "")


def example_list(runs: Runs) -> str:
    """Wins, losses and collapses of the configuration that was best on dev, completions side by side."""
    test = of_first_reading(runs.test[kinds.are(runs.test["arm"], kinds.bridge)])
    if test.empty:
        return '<p class="quiet">None.</p>'
    trials = runs.trials.set_index("fingerprint")
    rank = test["fingerprint"].map(trials["rank"]).astype(float)
    html = []
    for (pair, evaluator), part in test.assign(rank=rank).groupby(["pair", "evaluator"]):
        best = part.sort_values("rank", ascending=False, kind="stable").iloc[0]
        answers = runs.answers(best["fingerprint"], best["evaluator"])
        own = trials["judged_by"][best["fingerprint"]]
        bridge = own if own in set(answers["arm"]) else kinds.ordered(answers["arm"], kinds.bridge)[0]
        found = examples(answers, bridge, f"score_{best['reading']}")
        html.append(f"<h3>{escape(best['trial'])}: {escape(str(pair))}, {escape(str(evaluator))}</h3>")
        problems: dict[str, Problem] = {}
        try:
            problems = problems_of(runs.config(best["fingerprint"]), str(evaluator), "test")
        except ValueError as error:
            html.append(f'<p class="quiet">Without question and gold: {escape(str(error))}</p>')
        for kind, ids in found.items():
            html.append(f"<p><b>{escape(kind)}</b>: {len(ids)} problems</p>")
            for one in ids[:EXAMPLES]:
                html += [asked(one, problems.get(one)), sides(answers, one, bridge, best["reading"])]
    return "".join(html)


def examples(answers: pd.DataFrame, bridge: str, score: str) -> dict[str, list[str]]:
    """Problems by what happened to them."""
    scores = answers.pivot(index="problem", columns="arm", values=score)
    text = scores["target"] if "target" in scores else pd.Series(0.0, index=scores.index)
    right = scores[bridge] >= 1
    completions = answers[answers["arm"] == bridge].set_index("problem")["completion"]
    same = completions[completions.duplicated(keep=False) & completions.str.strip().ne("")]
    return {
        "Wins: the bridge is right where the text is not": list(scores.index[right & (text < 1)]),
        "Losses: the text is right where the bridge is not": list(scores.index[~right & (text >= 1)]),
        "Collapses: the bridge gives several problems the same completion": list(same.sort_values(kind="stable").index),
    }


def asked(named: str, problem: Problem | None) -> str:
    """A problem: its id and, where the benchmark is there, its question and what counts as right."""
    told = f'<span class="quiet">{escape(named)}</span>'
    if problem is None:
        return f"<div>{told}</div>"
    gold = " or ".join((problem.gold, *problem.also))
    return f"<div>{told}<pre>{escape(problem.question)}</pre>gold: {escape(gold)}</div>"


def sides(answers: pd.DataFrame, problem: str, bridge: str, reading: str) -> str:
    """One problem: what each arm wrote, what was read from it, and whether that was right."""
    of_problem = answers[answers["problem"] == problem].set_index("arm")
    columns = []
    for arm in filter(None, (bridge, kinds.against(bridge), "target", "source")):
        if arm in of_problem.index:
            row = of_problem.loc[arm]
            found = row[f"answer_{reading}"]
            word = "right" if row[f"score_{reading}"] >= 1 else "wrong"
            read = f"{word}: {found}" if isinstance(found, str) else "no answer"
            head = f"{arm.replace('_', ' ')}, {read}"
            text = escape(str(row["completion"]))
            columns.append(f"<div><span class=quiet>{escape(head)}</span><pre>{text}</pre></div>")
    return f"<div class=sides>{''.join(columns)}</div>"


def trial_section(runs: Runs, trial: Mapping[Any, Any]) -> str:
    """A trial's resolved config, result and provenance, folded away."""
    run = runs.runs[trial["fingerprint"]]
    parts: Iterable[tuple[str, Any]] = (("config", run.config), ("result", run.result()), ("provenance", run.provenance))
    inner = "".join(
        f"<p>{name}</p><pre>{escape(json.dumps(content, indent=1, ensure_ascii=False))}</pre>" for name, content in parts
    )
    state = "imported" if trial["imported"] else "complete" if trial["complete"] else "not complete"
    inner = from_base(runs, trial) + inner
    name = f"{escape(trial['trial'])} <span class=quiet>{escape(trial['fingerprint'][:8])}, {state}</span>"
    return f"<details><summary>{name}</summary><p class=quiet>trials/{escape(run.path.name)}</p>{inner}</details>"


def from_base(runs: Runs, trial: Mapping[Any, Any]) -> str:
    """Where a trial's config differs from the base of its sweep: the first trial that the sweep asked for."""
    html = []
    for name, planned in runs.plans.items():
        if trial["fingerprint"] == planned[0]:
            html.append(f"<p>the base of sweep {escape(name)}: its other trials are told against this one</p>")
        elif trial["fingerprint"] in planned and planned[0] in runs.runs:
            changed = changes(runs.runs[planned[0]].config, runs.runs[trial["fingerprint"]].config)
            html.append(f"<p>against the base of sweep {escape(name)}, {escape(runs.runs[planned[0]].name)}</p>")
            html.append(table_html(changed))
    return "".join(html)
