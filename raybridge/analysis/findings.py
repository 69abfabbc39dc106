"""What came of each complete trial of a sweep: its test rows by arm, what came across, and how much of the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from raybridge import arms as arm_files
from raybridge.analysis.chosen import dev_score, judged_by
from raybridge.analysis.kinds import are, beside_text, is_a, is_plain, of_sweeps, trained
from raybridge.analysis.labels import name_of
from raybridge.analysis.measures import gaps_recovered, readings_of, summarised
from raybridge.analysis.replicates import band_of, group_of, replicates
from raybridge.data import rank
from raybridge.results import Results, TrialRun
from raybridge.results.baselines import identity_in, key_of
from raybridge.statistics import Comparison, against_control, corrected

NLLS = ("nll", "reconstruction_nll")  # of the answer, and of the question repeated
Gaps = Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One complete trial: its test rows by arm (first reading), and its own arm against the control on the same problems.

    name: what the sweep calls it. arm: that it was trained for, and is selected, stopped and ranked by. dev: accuracy there of
    the checkpoint that is tested, which ranks it. transfer: by accuracy; transfer_nll: by the NLL of the answer, "better" where
    the right question's soft tokens cost less. gaps: gap recovered by measure and arm, where it was measured.
    """

    name: str
    run: TrialRun
    config: dict[str, Any]
    result: dict[str, Any]
    arm: str
    dev: float
    reading: str
    arms: dict[str, dict[str, Any]]
    transfer: Comparison
    transfer_nll: Comparison
    gaps: Mapping[str, Gaps] = field(default_factory=dict)

    @property
    def control(self) -> str:
        """The arm with another problem's soft tokens, which its own must beat."""
        against = arm_files.find(self.arm).against
        assert against is not None, f"{self.arm} has no control"
        return against

    @property
    def own(self) -> dict[str, Any]:
        """The test row of its arm."""
        return self.arms[self.arm]

    def gap_recovered(self, arm: str, *, measure: str = "nll") -> float | None:
        """(floor NLL - arm NLL) / (floor NLL - text NLL); None where text does not help or a baseline is missing."""
        gap = self.gaps[measure].get(arm)
        return None if gap is None else gap[0]

    @property
    def soft_tokens(self) -> int:
        """K of its translator."""
        return self.config["translator"]["soft_tokens"]

    @property
    def compression(self) -> float:
        """Question tokens over soft tokens."""
        return self.own["question_tokens"] / self.soft_tokens

    @property
    def reads_text(self) -> bool:
        """Whether the question stands as text beside the soft tokens: then nothing is compressed."""
        return is_a(self.arm, beside_text)

    @property
    def compresses(self) -> bool:
        """Whether fewer soft tokens than tokens stand for a question."""
        return self.compression > 1 and not self.reads_text

    @property
    def missing(self) -> list[str]:
        """Arms without a translator that were not computed."""
        return [arm.name for arm in arm_files.every() if arm.frozen and of_sweeps(arm) and arm.name not in self.arms]


def find(asked: Mapping[str, str], results: Results) -> list[Finding]:
    """Findings of the trials of a translator that are complete, their transfer p Holm-corrected over the sweep.

    asked: what the sweep calls each trial that it asked for, by fingerprint.
    """
    complete = complete_of(asked, results).items()
    findings = [_finding(name, run, results) for name, run in complete if "evaluator" in run.config]
    by_accuracy, by_nll = corrected([one.transfer for one in findings]), corrected([one.transfer_nll for one in findings])
    return [
        replace(one, transfer=transfer, transfer_nll=transfer_nll)
        for one, transfer, transfer_nll in zip(findings, by_accuracy, by_nll, strict=True)
    ]


def complete_of(asked: Mapping[str, str], results: Results) -> dict[str, TrialRun]:
    """Those that have a result, by the name that the sweep gave them."""
    runs = {name: results.find(fingerprint) for fingerprint, name in asked.items()}
    return {name: run for name, run in runs.items() if run is not None and run.complete}


def _finding(name: str, run: TrialRun, results: Results) -> Finding:
    config, result = run.config, run.result()
    assert result is not None
    evaluator, step = name_of(config["evaluator"]), result["best_step"]
    kept = run.samples(evaluator, "test", step)
    if kept is None:
        raise ValueError(
            f"{run.path} has a result and no test samples; restore them, or move the directory away to run it again"
        )
    for column in ("nll", "question_tokens"):
        if column not in kept:
            raise ValueError(f"{run.path}: its test samples have no column {column!r}; delete them and they are computed again")
    problems = asked_of(kept["problem"], config["test_problems"])
    samples = kept[kept["problem"].isin(problems) & are(kept["arm"], lambda arm: trained(arm) and of_sweeps(arm))]
    samples = samples[samples["arm"].map(is_plain)]
    contents = run.contents
    identities = [identity_in(arm, config, contents, "test") for arm in arm_files.every() if arm.frozen and of_sweeps(arm)]
    frozen = [results.baseline(key_of(identity, evaluator, "test", problems)) for identity in identities]
    answers = pd.concat([samples, *(table for table in frozen if table is not None)], ignore_index=True)
    reading = readings_of(samples)[0]
    rows = summarised(answers, step=step, split="test", evaluator=evaluator, readings=[reading])
    own = judged_by(result, samples["arm"])
    ours, shuffled = (samples[samples["arm"] == arm] for arm in (own, arm_files.find(own).against))
    return Finding(
        name=name,
        run=run,
        config=config,
        result=result,
        arm=own,
        dev=dev_score(result, run.evals()),
        reading=reading,
        arms={row["arm"]: row for row in rows},
        transfer=against_control(shuffled[f"score_{reading}"], ours[f"score_{reading}"]),
        transfer_nll=against_control(shuffled["nll"], ours["nll"], lower_is_better=True),
        gaps={measure: gaps_recovered(answers, measure) for measure in NLLS},
    )


def asked_of(evaluated: pd.Series, count: int | None) -> list[str]:
    """The problems that a trial asked for, in order: of all that it was evaluated on, those that are drawn first.

    `evaluate` may have added others. None asked for all of them.
    """
    problems = list(dict.fromkeys(evaluated))
    return problems if count is None else sorted(problems, key=lambda problem: rank(problem, seed=0))[:count]


def dev_scores(finding: Finding) -> pd.Series:
    """Scores of its own arm on dev, of the checkpoint that is tested, by problem."""
    evaluator = name_of(finding.config["evaluator"])
    samples = finding.run.samples(evaluator, "dev", finding.result["best_step"], text=False)
    if samples is None:
        raise ValueError(f"{finding.run.path} has a result and no dev samples of its best step; restore them")
    return samples[samples["arm"] == finding.arm].set_index("problem")[f"score_{finding.reading}"]


def band_over(findings: Sequence[Finding], results: Results, *, split: str) -> float | None:
    """The A/A band of these trials' accuracies, each at its best step, beside that of the sweep `replicates`."""
    if not findings:
        return None
    first = findings[0]
    scores = [one.own["accuracy"] if split == "test" else one.dev for one in findings]
    prints = [one.run.fingerprint for one in findings]
    rows = pd.DataFrame({"fingerprint": prints, "group": groups_of(findings), "accuracy": scores})
    where = {"on": name_of(first.config["evaluator"]), "split": split, "reading": first.reading}
    return band_of(rows, beside=replicates(results, like=first.config, arms={one.arm for one in findings}, **where))


def groups_of(findings: Sequence[Finding]) -> list[str]:
    """The group of each: trials of one differ in their seed alone."""
    return [group_of(finding.config, finding.run.contents) for finding in findings]
