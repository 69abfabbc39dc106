"""One self-contained HTML file: questions, tables, figures, examples, configs, provenance, cost and cautions."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from raybridge.answers import of_first_reading
from raybridge.cautions import cautions
from raybridge.findings import transfer
from raybridge.runs import Runs

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
h3 { margin: 1.6rem 0 .3rem; }
nav a { margin-right: 1rem; }
.quiet { color: #595959; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; white-space: nowrap; padding: .25rem .7rem .25rem 0; vertical-align: top; }
td { border-bottom: 1px solid #e3e3e3; }
th { border-bottom: 2px solid #333; vertical-align: bottom; }
.number { text-align: right; }
figure { display: inline-block; vertical-align: top; width: 23rem; margin: 0 1rem 1.5rem 0; }
figure img { width: 100%; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .5rem; margin: 0; font-size: .78rem; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .8rem; margin: .4rem 0 1.2rem; }
.caution { border-left: 4px solid #b35900; padding-left: .7rem; margin: .8rem 0; }
.caution ul { margin: .2rem 0; }
summary { cursor: pointer; }
"""
EXAMPLES = 3  # of each kind
FOLDED = 8  # cautions of one kind before they are folded away
BRIDGES = ("bridged", "bridged_with_text")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure as the report shows it."""

    title: str
    png: bytes
    caption: str


def report(runs: Runs, figures: Sequence[Drawn], missing: Sequence[str]) -> str:
    """The whole page. `missing` says which figures have no data and what makes them."""
    parts = {
        "Cautions": caution_list(runs),
        "Sweeps": "".join(sweep_section(runs, name) for name in runs.plans if runs.sweep in (None, name)) or "<p>None.</p>",
        "Figures": figure_list(figures, missing),
        "Examples": example_list(runs),
        "Cost": table_html(costs(runs)),
        "Trials": "".join(trial_section(runs, trial) for trial in runs.trials.to_dict("records")),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in parts)
    body = "".join(f'<h2 id="{name.lower()}">{name}</h2>{html}' for name, html in parts.items())
    count = f"{len(runs.trials)} trial{'s' if len(runs.trials) != 1 else ''}, {int(runs.trials['complete'].sum())} complete"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>raybridge report</title><style>{STYLE}</style></head><body><h1>raybridge report</h1>"
        f'<p class="quiet">{count}</p><nav>{links}</nav>{body}</body></html>\n'
    )


def table_html(table: pd.DataFrame) -> str:
    """A table; numbers to the right, what is missing as a dash."""
    if table.empty:
        return '<p class="quiet">None.</p>'
    numeric = {column: pd.api.types.is_numeric_dtype(table[column]) for column in table}
    head = "".join(f"<th{' class=number' if numeric[column] else ''}>{escape(str(column))}</th>" for column in table)
    rows = "".join(
        "<tr>" + "".join(f"<td{' class=number' if numeric[c] else ''}>{cell(row[c])}</td>" for c in table) + "</tr>"
        for row in table.to_dict("records")
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def cell(value: Any) -> str:
    """A value as a reader sees it."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
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
    trials = runs.trials[runs.trials["fingerprint"].isin(runs.plans[name])]
    return (
        f"<h3>{escape(name)}</h3><p>{escape(question)}</p>{table_html(outcomes(runs, trials))}"
        f"<p>Where its trials differ:</p>{table_html(differences(trials))}"
    )


def outcomes(runs: Runs, trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each configuration: dev peak and final, test beside the control, and the word for the transfer."""
    if trials.empty:
        return trials
    test = of_first_reading(runs.test[runs.test["fingerprint"].isin(set(trials["fingerprint"]))])
    trials = trials.sort_values(["K", "label", "seed"], kind="stable")
    rows = trials.groupby("label", sort=False).agg(
        **{"K": ("K", "first"), "seeds": ("fingerprint", "nunique")},
        **{"dev peak": ("result.peak", "mean"), "dev final": ("result.final", "mean")},
    )
    for arm in ("bridged", "shuffled", "target"):
        part = test[test["arm"] == arm].groupby("label")[["accuracy", "low", "high"]].mean()
        said = part.apply(lambda row: f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", axis=1)
        rows[f"test {arm}"] = said if len(part) else None
    bridged = test[test["arm"] == "bridged"]
    if len(bridged):
        part = bridged[bridged["evaluator"] == bridged["evaluator"].iloc[0]]
        found = transfer(runs, part).set_index("label")
        rows["gap recovered"] = part.groupby("label")[["fingerprint", "evaluator"]].apply(lambda own: mean_gap(runs, own))
        rows["transfer"], rows["p (Holm)"] = found["transfer_verdict"], found["transfer_p"]
    rows["ended"] = trials.groupby("label")["result.stopped"].agg(lambda ends: ", ".join(sorted(set(ends.dropna()))))
    return rows.reset_index().rename(columns={"label": "configuration"})


def mean_gap(runs: Runs, own: pd.DataFrame) -> float | None:
    """Gap recovered by the bridge, mean over the seeds."""
    found = [runs.gaps(row["fingerprint"], row["evaluator"]).get("bridged") for row in own.to_dict("records")]
    known = [one[0] for one in found if one is not None]
    return sum(known) / len(known) if known else None


def differences(trials: pd.DataFrame) -> pd.DataFrame:
    """The config fields in which the trials of a sweep differ, a row for each configuration."""
    fields = [column for column in trials if str(column).startswith("config.") and column not in ("config.name", "config.seed")]
    varied = [field for field in fields if trials[field].astype(str).nunique() > 1]
    rows = trials.drop_duplicates("label")[["label", *varied]]
    return rows.rename(columns=lambda name: str(name).removeprefix("config.")) if varied else pd.DataFrame()


def figure_list(figures: Sequence[Drawn], missing: Sequence[str]) -> str:
    """The figures with their captions in words, and those that have no data yet."""
    drawn = "".join(
        f'<figure><figcaption><b>{escape(one.title)}</b></figcaption><img alt="{escape(one.title + ". " + one.caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(one.png).decode()}"></figure>'
        for one in figures
    )
    absent = "".join(f"<li>{escape(sentence)}</li>" for sentence in missing)
    return drawn + (f'<p class="quiet">Without data:</p><ul class="quiet">{absent}</ul>' if absent else "")


def example_list(runs: Runs) -> str:
    """Wins, losses and collapses of the configuration that was best on dev, completions side by side."""
    test = of_first_reading(runs.test[runs.test["arm"].isin(BRIDGES)])
    if test.empty:
        return '<p class="quiet">None.</p>'
    peaks = test["fingerprint"].map(runs.trials.set_index("fingerprint")["result.peak"]).astype(float)
    html = []
    for (pair, evaluator), part in test.assign(peak=peaks).groupby(["pair", "evaluator"]):
        best = part.sort_values("peak", ascending=False, kind="stable").iloc[0]
        answers = runs.answers(best["fingerprint"], best["evaluator"])
        bridge = next(arm for arm in BRIDGES if arm in set(answers["arm"]))
        kinds = examples(answers, bridge, f"score_{best['reading']}")
        html.append(f"<h3>{escape(best['trial'])}: {escape(str(pair))}, {escape(str(evaluator))}</h3>")
        for kind, problems in kinds.items():
            html.append(f"<p><b>{escape(kind)}</b>: {len(problems)} problems</p>")
            html += [sides(answers, problem, bridge, best["reading"]) for problem in problems[:EXAMPLES]]
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


def sides(answers: pd.DataFrame, problem: str, bridge: str, reading: str) -> str:
    """One problem: what each arm wrote, what was read from it, and whether that was right."""
    of_problem = answers[answers["problem"] == problem].set_index("arm")
    columns = []
    for arm in (bridge, "shuffled", "target", "source"):
        if arm in of_problem.index:
            row = of_problem.loc[arm]
            found = row[f"answer_{reading}"]
            word = "right" if row[f"score_{reading}"] >= 1 else "wrong"
            read = f"{word}: {found}" if isinstance(found, str) else "no answer"
            head = f"{arm.replace('_', ' ')}, {read}"
            text = escape(str(row["completion"]))
            columns.append(f"<div><span class=quiet>{escape(head)}</span><pre>{text}</pre></div>")
    return f"<div>{escape(problem)}</div><div class=sides>{''.join(columns)}</div>"


def costs(runs: Runs) -> pd.DataFrame:
    """Training time of each configuration, and GPU hours where the machine had GPUs."""
    rows = []
    for label, part in runs.trials.groupby("label", sort=False):
        seconds = part.get("result.train_seconds", pd.Series(dtype=float)).astype(float)
        gpus = [len((runs.provenance(one).get("hardware") or {}).get("gpus") or []) for one in part["fingerprint"]]
        hours = seconds.sum(min_count=1) / 3600
        gpu_hours = sum(s * g for s, g in zip(seconds, gpus, strict=False) if s == s) / 3600 if any(gpus) else None
        rows.append({"configuration": label, "trials": len(part), "training hours": hours, "GPU hours": gpu_hours})
    return pd.DataFrame(rows)


def trial_section(runs: Runs, trial: Mapping[Any, Any]) -> str:
    """A trial's resolved config, result and provenance, folded away."""
    run = runs.runs[trial["fingerprint"]]
    parts: Iterable[tuple[str, Any]] = (("config", run.config), ("result", run.result()), ("provenance", run.provenance))
    inner = "".join(
        f"<p>{name}</p><pre>{escape(json.dumps(content, indent=1, ensure_ascii=False))}</pre>" for name, content in parts
    )
    state = "complete" if trial["complete"] else "not complete"
    name = f"{trial['trial']} <span class=quiet>{trial['fingerprint'][:8]}, {state}</span>"
    return f"<details><summary>{name}</summary><p class=quiet>{escape(str(run.path))}</p>{inner}</details>"
