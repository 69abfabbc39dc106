"""What a sweep found, written by the program: every number beside its control and its interval, no word beyond the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from raybridge.analysis.labels import group_of
from raybridge.evaluation.answering import summarise
from raybridge.evaluation.setting import BASELINE_ARMS, TRIAL_ARMS_TEST, baseline_requests, problems_of
from raybridge.results import Results, TrialRun
from raybridge.statistics import Comparison, aa_band, compare, corrected, minimum_detectable_effect
from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One complete trial: its test rows by arm (first reading), and bridged against shuffled on the same problems.

    transfer: by accuracy; transfer_nll: by the NLL of the answer, "better" where the right question's soft tokens cost less.
    """

    trial: Trial
    run: TrialRun
    result: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    transfer: Comparison
    transfer_nll: Comparison

    def gap_recovered(self, arm: str, *, measure: str = "nll") -> float | None:
        """(floor NLL - arm NLL) / (floor NLL - text NLL); None where text does not help or a baseline is missing."""
        if not {"no_context", "target"} <= self.arms.keys():
            return None
        floor, text, ours = (self.arms[one][measure] for one in ("no_context", "target", arm))
        return (floor - ours) / (floor - text) if floor > text else None

    @property
    def compression(self) -> float:
        """Question tokens over soft tokens. At or below 1 nothing was compressed."""
        return self.arms["bridged"]["question_tokens"] / self.trial.translator.soft_tokens

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
    by_accuracy, by_nll = corrected([one.transfer for one in findings]), corrected([one.transfer_nll for one in findings])
    return [
        replace(one, transfer=transfer, transfer_nll=transfer_nll)
        for one, transfer, transfer_nll in zip(findings, by_accuracy, by_nll, strict=True)
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
    ours, shuffled = (samples[samples["arm"] == arm] for arm in ("bridged", "shuffled"))
    score = f"score_{evaluator.readings[0]}"
    return Finding(
        trial=trial,
        run=run,
        result=result,
        arms={row["arm"]: row for row in rows if row["reading"] == evaluator.readings[0]},
        transfer=compare(shuffled[score], ours[score]),
        transfer_nll=compare(ours["nll"], shuffled["nll"]),
    )


TEST_ARMS = {"bridged": "test bridged", "shuffled": "shuffled", "target": "text", "bridged_with_text": "bridged with text"}
ACCURACY = ("trial", "K", "compression", "dev peak", "final", *TEST_ARMS.values(), "transfer", "ended")
NLL_ARMS = ("bridged", "shuffled", "target", "no_context")
GAPS = {"nll": "gap recovered (shuffled)", "reconstruction_nll": "reconstruction gap (shuffled)"}
NLL = ("NLL of", "bridged", "shuffled", "text", "no context", "transfer", *GAPS.values())


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
        *(_interval(arms[arm]) if arm in arms else "missing" for arm in TEST_ARMS),
        f"{transfer.verdict} ({transfer.difference:+.3f}, p {transfer.p:.1g})",
        result["stopped"],
    ]


def nll_cells(finding: Finding) -> list[str]:
    """A finding as a row of the table of NLLs: what the answer costs, and what came across beside the floor and the text."""
    arms, transfer = finding.arms, finding.transfer_nll
    return [
        finding.trial.name,
        *(f"{arms[arm]['nll']:.3f}" if arm in arms else "missing" for arm in NLL_ARMS),
        f"{transfer.verdict} ({arms['shuffled']['nll'] - arms['bridged']['nll']:+.3f}, p {transfer.p:.1g})",
        *(_beside_shuffled(finding, measure) for measure in GAPS),
    ]


def _beside_shuffled(finding: Finding, measure: str) -> str:
    """Gap recovered, and in brackets what soft tokens of another question recover: the answer's format, for one."""
    ours, shuffled = (finding.gap_recovered(arm, measure=measure) for arm in ("bridged", "shuffled"))
    return "-" if ours is None or shuffled is None else f"{ours:z.2f} ({shuffled:z.2f})"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def notes(findings: Sequence[Finding]) -> list[str]:
    """What a reader must know before quoting the table."""
    n = len(findings) and findings[0].transfer.n
    said = [
        "transfer: bridged against shuffled soft tokens on the same test problems, by accuracy (exact McNemar p) and by NLL "
        "(paired permutation p), each Holm-corrected over the sweep. bridged with text: does it harm the text?",
        "NLL: nats a token of the worked test answers. gap recovered: (no context - bridged) / (no context - text) of it, in "
        "brackets that of shuffled; reconstruction gap: of the question, repeated by the target from the soft tokens.",
    ]
    if n:
        effect = minimum_detectable_effect(n)
        shown = f"below {effect:.3f} would often be missed" if effect < 1 else "of any size would often be missed: too few"
        said.append(f"between two trials that disagree on half of the {n} test problems, a difference {shown}.")
    flat = [finding.trial.name for finding in findings if finding.compression <= 1]
    if flat:
        said.append(f"(!) no compression: at least as many soft tokens as question tokens in {', '.join(flat)}.")
    elsewhere = [finding for finding in findings if finding.result["best_step"] != finding.result["peak_step"]]
    if elsewhere:
        steps = ", ".join(f"{finding.trial.name} at step {finding.result['best_step']}" for finding in elsewhere)
        said.append(f"tested at another step than their peak, whose accuracy dev cannot tell from shuffled's: {steps}.")
    band = band_of(findings, [finding.arms["bridged"]["accuracy"] for finding in findings])
    if band is not None:
        said.append(
            f"A/A band: {band:.3f} of test accuracy. Trials that differ in their seed alone lie no further apart, with "
            "probability 0.95 and as few seeds as there are; a ranking inside it is a tie."
        )
    lacking = [f"{arm} of {finding.trial.name}" for finding in findings for arm in finding.missing]
    if lacking:
        said.append(f"missing baselines (not zero: never computed): {', '.join(lacking)}; the same command computes them.")
    return said


def band_of(findings: Sequence[Finding], scores: Sequence[float]) -> float | None:
    """The A/A band of scores of these trials; None where no two of them differ in their seed alone."""
    groups: dict[str, list[float]] = {}
    for finding, score in zip(findings, scores, strict=True):
        groups.setdefault(group_of(finding.trial.resolved()), []).append(score)
    return aa_band(*groups.values())


def best_on_dev(findings: Sequence[Finding]) -> str:
    """Which trial dev chose, and which others dev does not tell apart from it, each at its peak on the same problems."""
    best = max(findings, key=lambda finding: finding.result["peak"])
    scores = {finding.trial.name: _dev_scores(finding) for finding in findings}
    top = scores[best.trial.name]
    others = [name for name, part in scores.items() if name != best.trial.name and part.index.equals(top.index)]
    band = band_of(findings, [finding.result["peak"] for finding in findings])
    found = corrected([compare(scores[name], top) for name in others], band=band)
    ties = [name for name, one in zip(others, found, strict=True) if one.verdict == "tie"]
    tests = ["Holm-corrected p above 0.05", *(["inside the A/A band"] if band is not None else [])]
    beside = f"; dev does not tell it from {', '.join(ties)} ({' or '.join(tests)})" if ties else ""
    return f"best on dev: {best.trial.name} (chosen on dev; its test figures were not used to choose it){beside}"


def _dev_scores(finding: Finding) -> pd.Series:
    """Scores of the bridged arm on dev at its peak, by problem."""
    evaluator = finding.trial.evaluator
    samples = finding.run.samples(evaluator.name, "dev", finding.result["peak_step"], text=False)
    if samples is None:
        raise ValueError(f"{finding.run.path} has a result and no dev samples of its peak; restore them")
    return samples[samples["arm"] == "bridged"].set_index("problem")[f"score_{evaluator.readings[0]}"]


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
        said.append(best_on_dev(findings))
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
        "gap_recovered": finding.gap_recovered("bridged"),
        "gap_recovered_shuffled": finding.gap_recovered("shuffled"),
        "reconstruction_gap_recovered": finding.gap_recovered("bridged", measure="reconstruction_nll"),
        "reconstruction_gap_recovered_shuffled": finding.gap_recovered("shuffled", measure="reconstruction_nll"),
        "test": finding.arms,
        "missing": finding.missing,
        "transfer": vars(finding.transfer),
        "transfer_nll": vars(finding.transfer_nll),
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
    listed = [f"- {note}" for note in said]
    return "\n".join([f"# {sweep}", "", question, "", *drawn, *listed, "", "## Artifacts", "", *artifacts, ""])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
