"""What a sweep found, written by the program: every number beside its control and its interval, no word beyond the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raybridge.evaluation import summarise
from raybridge.requests import BASELINE_ARMS, TRIAL_ARMS_TEST, baseline_requests, problems_of
from raybridge.results import Results, TrialRun
from raybridge.statistics import Comparison, compare, corrected, minimum_detectable_effect
from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One complete trial: its test rows by arm (first reading), and bridged against shuffled on the same problems."""

    trial: Trial
    run: TrialRun
    result: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    transfer: Comparison

    @property
    def gap_recovered(self) -> float | None:
        """(floor NLL - bridged NLL) / (floor NLL - text NLL); None where text does not help or a baseline is missing."""
        return self._gap("nll")

    @property
    def reconstruction_gap_recovered(self) -> float | None:
        """The same for the NLL of repeating the question."""
        return self._gap("reconstruction_nll")

    @property
    def compression(self) -> float:
        """Question tokens over soft tokens. At or below 1 nothing was compressed."""
        return self.arms["bridged"]["question_tokens"] / self.trial.translator.soft_tokens

    def _gap(self, measure: str) -> float | None:
        if not {"no_context", "target"} <= self.arms.keys():
            return None
        floor, text, ours = (self.arms[arm][measure] for arm in ("no_context", "target", "bridged"))
        return (floor - ours) / (floor - text) if floor > text else None

    @property
    def missing(self) -> list[str]:
        """Baselines that were not computed."""
        return [arm for arm in BASELINE_ARMS if arm not in self.arms]


def find(trials: Sequence[Trial], results: Results) -> list[Finding]:
    """Findings of the trials that are complete, their transfer p Holm-corrected over the sweep."""
    findings = []
    for trial in trials:
        run = results.find(trial.fingerprint)
        if run is None or not run.complete:
            continue
        result = run.result()
        assert result is not None
        findings.append(_finding(trial, run, result, results))
    transfers = corrected([finding.transfer for finding in findings])
    return [
        Finding(trial=f.trial, run=f.run, result=f.result, arms=f.arms, transfer=transfer)
        for f, transfer in zip(findings, transfers, strict=True)
    ]


def _finding(trial: Trial, run: TrialRun, result: dict[str, Any], results: Results) -> Finding:
    evaluator, step = trial.evaluator, result["best_step"]
    samples = run.samples(evaluator.name, "test", step)
    if samples is None:
        raise ValueError(
            f"{run.path} has a result and no test samples; restore them, or move the directory away to run it again"
        )
    asked = {problem.id for problem in problems_of(trial, "test")}  # `evaluate` may have added problems and arms
    samples = samples[samples["problem"].isin(asked) & samples["arm"].isin(TRIAL_ARMS_TEST)]
    tables = [samples]
    for _, key, _ in baseline_requests(trial, "test"):
        table = results.baseline(key)
        if table is not None:
            tables.append(table)
    rows = summarise(pd.concat(tables, ignore_index=True), evaluator, step=step, split="test")
    scores = {arm: part[f"score_{evaluator.readings[0]}"].tolist() for arm, part in samples.groupby("arm")}
    return Finding(
        trial=trial,
        run=run,
        result=result,
        arms={row["arm"]: row for row in rows if row["reading"] == evaluator.readings[0]},
        transfer=compare(scores["shuffled"], scores["bridged"]),
    )


ACCURACY = ("trial", "K", "compression", "dev peak", "final", "test bridged", "shuffled", "text", "transfer", "ended")
NLL_ARMS = ("bridged", "shuffled", "target", "no_context")
NLL = ("NLL of", "bridged", "shuffled", "text", "no context", "gap recovered", "reconstruction gap")


def accuracy_cells(finding: Finding) -> list[str]:
    """A finding as a row of the table of accuracies."""
    result, arms, transfer = finding.result, finding.arms, finding.transfer
    flag = " (!)" if finding.compression <= 1 else ""
    return [
        finding.trial.name,
        str(finding.trial.translator.soft_tokens),
        f"{finding.compression:.2f}x{flag}",
        f"{result['peak']:.3f} at {result['peak_step']}",
        f"{result['final']:.3f}",
        _interval(arms["bridged"]),
        _interval(arms["shuffled"]),
        _interval(arms["target"]) if "target" in arms else "missing",
        f"{transfer.verdict} ({transfer.difference:+.3f}, p {transfer.p:.1g})",
        result["stopped"],
    ]


def nll_cells(finding: Finding) -> list[str]:
    """A finding as a row of the table of NLLs: what the answer costs, and what came across beside the floor and the text."""
    gaps = (finding.gap_recovered, finding.reconstruction_gap_recovered)
    return [
        finding.trial.name,
        *(f"{finding.arms[arm]['nll']:.3f}" if arm in finding.arms else "missing" for arm in NLL_ARMS),
        *("-" if gap is None else f"{gap:.2f}" for gap in gaps),
    ]


def _interval(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def notes(findings: Sequence[Finding]) -> list[str]:
    """What a reader must know before quoting the table."""
    n = len(findings) and findings[0].transfer.n
    said = [
        "transfer: bridged against shuffled soft tokens, same test problems; exact McNemar p, Holm-corrected over the sweep.",
        "NLL: nats a token of the worked test answers; gap recovered: (no context - bridged) / (no context - text) of it;",
        "reconstruction gap: the same of the question, repeated by the target from the soft tokens.",
    ]
    if n:
        effect = minimum_detectable_effect(n)
        shown = f"below {effect:.3f} would often be missed" if effect < 1 else "of any size would often be missed: too few"
        said.append(f"with {n} test problems a paired difference {shown}.")
    flat = [finding.trial.name for finding in findings if finding.compression <= 1]
    if flat:
        said.append(f"(!) no compression: at least as many soft tokens as question tokens in {', '.join(flat)}.")
    lacking = [f"{arm} of {finding.trial.name}" for finding in findings for arm in finding.missing]
    if lacking:
        said.append(f"missing baselines (not zero: never computed): {', '.join(lacking)}; the same command computes them.")
    return said


def overheads(findings: Sequence[Finding]) -> list[str]:
    """Seconds from a trial's start to its first step, and the share of its time outside training and evaluation."""
    lines = []
    for finding in findings:
        timing = finding.run.launch.timing()
        if timing is None or timing.first_step is None:
            continue
        whole, before = timing.ended - timing.started, timing.first_step - timing.started
        lines.append(
            f"{finding.trial.name}: first step {before:.1f} s after its start, {whole:.0f} s in all, "
            f"{before / whole:.0%} outside training and evaluation"
        )
    return lines


def write_summary(trials: Sequence[Trial], *, sweep: str, question: str, results: Results, why: Mapping[str, str]) -> str:
    """Write summary.log, ablation_results.json and EXPERIMENTS_SUMMARY.md; returns the log's text.

    why: trials have no result, a sentence by name.
    """
    findings = find(trials, results)
    folder = results.sweep(sweep)
    accuracies = [ACCURACY, *(accuracy_cells(finding) for finding in findings)]
    nlls = [NLL, *(nll_cells(finding) for finding in findings)]
    missing = [trial.name for trial in trials if trial.fingerprint not in {f.trial.fingerprint for f in findings}]
    said = [*notes(findings), *(f"no result: {name} ({why[name]})" for name in missing)]
    if findings:
        best = max(findings, key=lambda finding: finding.result["peak"])
        said.append(f"best on dev: {best.trial.name} (chosen on dev; its test figures were not used to choose it)")
    tables = [*_aligned(accuracies), "", *_aligned(nlls)]
    text = "\n".join([f"sweep {sweep}: {question}", "", *tables, "", *said, "", *overheads(findings), ""])
    folder.write_text("summary.log", text)
    folder.write_json(
        "ablation_results.json", {"sweep": sweep, "trials": [plain(finding) for finding in findings], "missing": missing}
    )
    folder.write_text("EXPERIMENTS_SUMMARY.md", markdown(sweep, question, [accuracies, nlls], said, findings))
    return text


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as JSON."""
    return {
        "name": finding.trial.name,
        "fingerprint": finding.trial.fingerprint,
        "config": finding.trial.resolved(),
        "result": finding.result,
        "compression": finding.compression,
        "gap_recovered": finding.gap_recovered,
        "reconstruction_gap_recovered": finding.reconstruction_gap_recovered,
        "test": finding.arms,
        "missing": finding.missing,
        "transfer": vars(finding.transfer),
    }


def markdown(
    sweep: str,
    question: str,
    tables: Sequence[Sequence[Sequence[str]]],
    said: Sequence[str],
    findings: Sequence[Finding],
) -> str:
    """EXPERIMENTS_SUMMARY.md."""
    drawn = []
    for heading, *rows in tables:
        drawn += ["| " + " | ".join(row) + " |" for row in [heading, ["---"] * len(heading), *rows]] + [""]
    artifacts = [f"- `{finding.run.path}`: {finding.result['reason']}" for finding in findings]
    return "\n".join([f"# {sweep}", "", question, "", *drawn, *said, "", "## Artifacts", "", *artifacts, ""])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
