"""What a sweep found, written by the program: every number beside its control and its interval, no word beyond the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raybridge.analysis.chosen import rank_of
from raybridge.analysis.findings import Finding, band_over, complete_of, dev_scores, find, groups_of
from raybridge.analysis.measures import shots_told
from raybridge.analysis.replicates import band_told, unranked
from raybridge.arms import find as find_arm
from raybridge.results import Results, TrialRun
from raybridge.results.files import finite
from raybridge.statistics import compare, corrected, minimum_detectable_effect

DEFAULT = {"bridged": "shuffled"}  # what most trials are judged by
SHOWN = ("bridged", "bridged_with_text")  # whatever they are judged by
GAP = 2  # spaces between two columns
HEADLINE = ("trial", "steps", "result")
GAPS = {"nll": "gap recovered (shuffled)", "reconstruction_nll": "reconstruction gap (shuffled)"}
Table = list[list[str]]


def judged(findings: Sequence[Finding]) -> dict[str, str]:
    """The arms that trials were trained for, in order, each with its control."""
    return {one.arm: one.control for one in sorted(findings, key=lambda one: find_arm(one.arm).order)} or DEFAULT


def accuracy_table(findings: Sequence[Finding]) -> Table:
    """Accuracies: a row for each finding under the headings. Where not all are judged by `bridged`, a column says by what."""
    own = judged(findings)
    arms = {arm: f"test {find_arm(arm).words}" for arm in own} | {arm: find_arm(arm).words for arm in own.values()}
    arms |= {"target": "text"} | {arm: find_arm(arm).words for arm in SHOWN if arm not in own}
    told = () if own == DEFAULT else ("judged by",)
    heads = ["trial", "K", "compression", "bytes", *told, "dev", "final", *arms.values(), "transfer", "ended"]
    return [heads, *(_row(one, arms, told=bool(told)) for one in findings)]


def _row(finding: Finding, arms: Iterable[str], *, told: bool) -> list[str]:
    """A finding as a row of accuracies. told: whether its own arm is."""
    result, transfer = finding.result, finding.transfer
    return [
        finding.name,
        str(finding.soft_tokens),
        f"{finding.compression:.2f}x{'' if finding.compresses else ' (!)'}",
        _bytes(finding),
        *([find_arm(finding.arm).words] if told else []),
        f"{finding.dev:.3f} at {result['best_step']}",
        f"{result['final']:.3f}",
        *(_interval(finding.arms[arm]) if arm in finding.arms else "missing" for arm in arms),
        f"{transfer.verdict} ({transfer.difference:+.3f}, p {transfer.p:.1g})",
        result["stopped"],
    ]


def _bytes(finding: Finding) -> str:
    """Bytes of a question as text over those of its soft tokens on the wire, flagged where that saves none."""
    question, wire = finding.own.get("question_bytes"), finding.own.get("wire_bytes")
    if question is None or wire is None or not question > 0 or not wire > 0:
        return "missing"
    return f"{question:,.0f}/{wire:,.0f} ({question / wire:.4f}x){' (!)' if question <= wire or finding.reads_text else ''}"


def nll_table(findings: Sequence[Finding]) -> Table:
    """NLLs: what the answer costs, and what came across beside the floor and the text."""
    own = judged(findings)
    arms = {arm: find_arm(arm).words for arm in (*own, *own.values())} | {"target": "text", "no_context": "no context"}
    rows = [
        [
            one.name,
            *(f"{one.arms[arm]['nll']:.3f}" if arm in one.arms else "missing" for arm in arms),
            f"{one.transfer_nll.verdict} ({one.arms[one.control]['nll'] - one.own['nll']:+.3f}, p {one.transfer_nll.p:.1g})",
            *(_beside_shuffled(one, measure) for measure in GAPS),
        ]
        for one in findings
    ]
    return [["NLL of", *arms.values(), "transfer", *GAPS.values()], *rows]


def _beside_shuffled(finding: Finding, measure: str) -> str:
    """Gap recovered, and in brackets what soft tokens of another question recover: the answer's format, for one."""
    ours, shuffled = (finding.gap_recovered(arm, measure=measure) for arm in (finding.arm, finding.control))
    return "-" if ours is None or shuffled is None else f"{ours:z.2f} ({shuffled:z.2f})"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def notes(findings: Sequence[Finding], results: Results) -> list[str]:
    """What a reader must know before quoting the table."""
    n = len(findings) and findings[0].transfer.n
    own = judged(findings)
    told = ", ".join(f"{find_arm(arm).words} against {find_arm(control).words}" for arm, control in own.items())
    said = [
        f"transfer: {told} soft tokens on the same test problems, by accuracy (exact McNemar p) and by NLL "
        "(paired permutation p), each Holm-corrected over the sweep. bridged with text: does it harm the text?",
        "compression: question tokens over soft tokens; bytes: of a question as UTF-8 over those of its soft tokens on the "
        "wire (fp16, header counted).",
        "NLL: nats a token of the worked test answers. gap recovered: (no context - bridged) / (no context - text) of it, in "
        "brackets that of shuffled; reconstruction gap: of the question, repeated by the target from the soft tokens.",
    ]
    if n:
        effect = minimum_detectable_effect(n)
        shown = f"below {effect:.3f} would often be missed" if effect < 1 else "of any size would often be missed: too few"
        said.append(f"between two trials that disagree on half of the {n} test problems, a difference {shown}.")
    beside = [finding.name for finding in findings if finding.reads_text]
    if beside:
        said.append(f"(!) nothing is compressed, for the question stands as text beside the soft tokens: {', '.join(beside)}.")
    if told := shots_told(row.get("shots") for one in findings for row in one.arms.values()):
        said.append(f"{told}; savings and compression are of the question alone.")
    flat = [finding.name for finding in findings if finding.compression <= 1]
    if flat:
        said.append(f"(!) no compression: at least as many soft tokens as question tokens in {', '.join(flat)}.")
    heavy = [one.name for one in findings if _bytes(one).endswith("(!)") and not one.reads_text]
    if heavy:
        said.append(f"(!) at least as many bytes on the wire as the question has as text: {', '.join(heavy)}.")
    elsewhere = [finding for finding in findings if finding.result["best_step"] != finding.result["peak_step"]]
    if elsewhere:
        peaks = ", ".join(
            f"{one.name} at step {one.result['best_step']} (peak {one.result['peak']:.3f} at {one.result['peak_step']})"
            for one in elsewhere
        )
        said.append(f"tested and ranked at another step than their peak, which dev cannot tell from shuffled's: {peaks}.")
    band, seeds = band_over(findings, results, split="test"), Counter(groups_of(findings)).values()
    if band is None and len(findings) > 1:
        said.append(f"{unranked(seeds)}: {band_told(band, seeds)}; between configurations nothing is ranked.")
    if band is not None:
        said.append(
            f"{band_told(band, seeds)}. Trials that differ in their seed alone lie no further apart, with "
            "probability 0.95 and as few seeds as there are; a ranking inside it is a tie."
        )
    lacking = [f"{arm} of {finding.name}" for finding in findings for arm in finding.missing]
    if lacking:
        said.append(f"missing baselines (not zero: never computed): {', '.join(lacking)}; the same command computes them.")
    return said


def best_on_dev(findings: Sequence[Finding], results: Results) -> str:
    """Which trial dev chose, and which others dev does not tell apart from it, on the same problems, each as it is tested."""
    best = max(findings, key=lambda finding: rank_of(finding.dev, finding.arm))
    findings = [finding for finding in findings if finding.arm == best.arm]  # another measure tells nothing of this one
    scores = {finding.name: dev_scores(finding) for finding in findings}
    top = scores[best.name]
    others = [name for name, part in scores.items() if name != best.name and part.index.equals(top.index)]
    band = band_over(findings, results, split="dev")
    said = f"best on dev: {best.name} (chosen on dev; its test figures were not used to choose it)"
    if band is None:
        seeds = Counter(groups_of(findings)).values()
        return said + (f"; {unranked(seeds)}: another seed may choose another" if len(findings) > 1 else "")
    found = corrected([compare(scores[name], top) for name in others], band=band)
    ties = [name for name, one in zip(others, found, strict=True) if one.verdict == "tie"]
    told = f"; dev does not tell it from {', '.join(ties)} (Holm-corrected p above 0.05 or inside the A/A band)"
    return said + (told if ties else "")


def overheads(complete: Mapping[str, TrialRun]) -> list[str]:
    """Seconds from a trial's start to its first step, and the share of its time outside training and evaluation."""
    lines = []
    for name, run in complete.items():
        timing = run.launch.timing()
        if timing is None or timing.first_step is None:
            continue
        whole, before = timing.ended - timing.started, timing.first_step - timing.started
        lines.append(
            f"{name}: first step {before:.1f} s after its start, {whole:.0f} s in all, "
            f"{before / whole:.0%} outside training and evaluation"
        )
    return lines


def headline_cells(name: str, run: TrialRun) -> list[str]:
    """A trial that is not of a translator as a row: its steps, and the measure that it is judged by."""
    result = run.result()
    assert result is not None
    told = result.get("headline")
    return [name, str(result["steps"]), "missing" if told is None else f"{told['name']} {told['value']:.4g}"]


def write_summary(
    asked: Mapping[str, str],
    *,
    sweep: str,
    question: str,
    results: Results,
    why: Mapping[str, str],
    width: int | None = None,
) -> str:
    """Write summary.log, ablation_results.json and EXPERIMENTS_SUMMARY.md; returns the log's text, its tables so wide.

    asked: what the sweep calls each trial that it asked for, by fingerprint, in order. why: trials have no result, a sentence
    by name.
    """
    complete = dict(complete_of(asked, results))
    findings, others = (
        find(asked, results),
        [headline_cells(*one) for one in complete.items() if "evaluator" not in one[1].config],
    )
    tables = [accuracy_table(findings), nll_table(findings)] if findings or not others else []
    tables += [[[*HEADLINE], *others]] if others else []
    missing = [name for name in asked.values() if name not in complete]
    said = [
        *(notes(findings, results) if findings or not others else []),
        *(f"no result: {name} ({why[name]})" for name in missing),
    ]
    if findings:
        said.append(best_on_dev(findings, results))

    def text(width: int | None) -> str:
        drawn = [line for table in tables for part in parts(table, width) for line in [*_aligned(part), ""]]
        return "\n".join([f"sweep {sweep}: {question}", "", *drawn, *said, "", *overheads(complete), ""])

    folder = results.sweep(sweep)
    folder.write_text("summary.log", text(None))
    folder.write_json(
        "ablation_results.json", {"sweep": sweep, "trials": [plain(finding) for finding in findings], "missing": missing}
    )
    reasons = {run: (run.result() or {}).get("reason", "") for run in complete.values()}
    folder.write_text("EXPERIMENTS_SUMMARY.md", markdown(sweep, question, tables, said, reasons))
    return text(width)


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as JSON. What was not measured is null."""
    told = {
        "name": finding.name,
        "fingerprint": finding.run.fingerprint,
        "config": finding.config | {"name": finding.name},
        "result": finding.result,
        "arm": finding.arm,
        "compression": finding.compression,
        "gap_recovered": finding.gap_recovered(finding.arm),
        "gap_recovered_shuffled": finding.gap_recovered(finding.control),
        "reconstruction_gap_recovered": finding.gap_recovered(finding.arm, measure="reconstruction_nll"),
        "reconstruction_gap_recovered_shuffled": finding.gap_recovered(finding.control, measure="reconstruction_nll"),
        "test": finding.arms,
        "missing": finding.missing,
        "transfer": vars(finding.transfer),
        "transfer_nll": vars(finding.transfer_nll),
    }
    plain_: dict[str, Any] = finite(told)
    return plain_


def markdown(
    sweep: str,
    question: str,
    tables: Sequence[Sequence[Sequence[str]]],
    said: Sequence[str],
    reasons: Mapping[TrialRun, str],
) -> str:
    """EXPERIMENTS_SUMMARY.md. reasons: why each complete trial ended."""
    drawn = []
    for heading, *rows in tables:
        drawn += ["| " + " | ".join(row) + " |" for row in [heading, ["---"] * len(heading), *rows]] + [""]
    artifacts = [f"- [{run.path.name}](../../trials/{run.path.name}): {reason}" for run, reason in reasons.items()]
    listed = [f"- {note}" for note in said]
    return "\n".join([f"# {sweep}", "", question, "", *drawn, *listed, "", "## Artifacts", "", *artifacts, ""])


def parts(rows: Sequence[Sequence[str]], width: int | None) -> list[list[list[str]]]:
    """A table as tables that are no wider, if that can be, each with the first column, whose long cells have several lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = widths[0] if width is None else min(widths[0], width // 2)
    chosen: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        needed = widths[0] + sum(GAP + widths[one] for one in [*chosen[-1], column])
        if chosen[-1] and width is not None and needed > width:
            chosen.append([])
        chosen[-1].append(column)
    return [[line for row in rows for line in _in_lines([row[0], *(row[one] for one in part)], widths[0])] for part in chosen]


def _in_lines(row: Sequence[str], room: int) -> list[list[str]]:
    """A row, its first cell going on below where it is longer than its room."""
    first = [row[0][at : at + room] for at in range(0, len(row[0]), room)] or [""]
    return [[first[0], *row[1:]], *([more, *("" for _ in row[1:])] for more in first[1:])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [(" " * GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
