"""What a reader must know before quoting a number: found in the results by rule, said in one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from raybridge.analysis.kinds import Kind, against, are, beside_text, bridge, in_place, is_a, ordered, textless
from raybridge.analysis.measures import of_first_reading
from raybridge.analysis.runs import Runs
from raybridge.results.contents import EARLIER
from raybridge.statistics import Comparison, compare, corrected, minimum_detectable_effect

UNIQUE = 0.5  # of the target's share of different completions; below it an arm has collapsed
DETECTABLE = 0.1  # a paired difference that a benchmark should be able to show


def cautions(runs: Runs) -> pd.DataFrame:
    """A row for each caution: which trial, what kind, and the sentence."""
    rows: list[dict[str, Any]] = []
    rules = (
        unreadable,
        smoke,
        unfinished,
        uncompressed,
        dead_terms,
        contaminated,
        uncontrolled,
        too_few,
        alone,
        outdone,
        harmed,
        collapsed,
        earlier,
        imported,
    )
    for rule in rules:
        try:
            rows += rule(runs)
        except ValueError as error:  # a file cannot be read; the other rules still speak
            rows.append(_said("results", "not readable", str(error)))
    return pd.DataFrame(rows, columns=["trial", "kind", "sentence"]).drop_duplicates(ignore_index=True)


def _said(trial: str, kind: str, sentence: str) -> dict[str, Any]:
    return {"trial": trial, "kind": kind, "sentence": sentence}


def _together(names: pd.Series) -> str:
    """What several trials are called: one by its name, more by their number."""
    return str(names.iloc[0]) if names.nunique() == 1 else f"{names.nunique()} trials"


def unreadable(runs: Runs) -> Iterator[dict[str, Any]]:
    """Results on disk that are in no figure."""
    for name, sentence in runs.left_out.items():
        yield _said(name[:8] if name.isalnum() else name, "not readable", f"left out: {sentence}")


def uncontrolled(runs: Runs) -> Iterator[dict[str, Any]]:
    """Bridges without their control: nothing shows that what they carry comes from the question."""
    test = runs.test
    for (trial, evaluator), part in test.groupby(["trial", "evaluator"], sort=False):
        labels = set(part["arm"])
        for control in dict.fromkeys(filter(None, map(against, ordered(labels, bridge)))):
            if control not in labels:
                sentence = f"no {control} control was run on {evaluator}: what its soft tokens carry is not known"
                yield _said(str(trial), "no control", sentence)


def unfinished(runs: Runs) -> Iterator[dict[str, Any]]:
    """Trials without a result: nothing final can be said of them."""
    for trial in runs.trials.to_dict("records"):
        if not trial["complete"]:
            failure = runs.runs[trial["fingerprint"]].failure()
            why = f"failed: {failure}" if failure else "has no result yet"
            yield _said(trial["trial"], "not complete", f"{why}; it is in no comparison on test")
    if runs.chosen is not None:  # others are there, and were not asked about
        return
    known = {*runs.runs, *runs.left_out}
    for sweep, names in runs.named.items():
        for fingerprint, name in names.items():
            if runs.sweep in (None, sweep) and fingerprint not in known and not any(fingerprint[:8] in one for one in known):
                yield _said(name, "not complete", f"sweep {sweep} asked for it and there is nothing on disk of it")


def uncompressed(runs: Runs) -> Iterator[dict[str, Any]]:
    """At least as many soft tokens as the question has."""
    test = runs.test
    rows = of_first_reading(test[are(test["arm"], bridge)])
    place = {label: number for number, label in enumerate(ordered(rows["arm"]))}
    first = rows.sort_values("arm", key=lambda arm: arm.map(place), kind="stable").drop_duplicates("fingerprint")
    for row in first.sort_index().to_dict("records"):
        question = row.get("question_tokens")
        if pd.notna(question) and question <= row["K"]:
            sentence = f"{row['K']:.0f} soft tokens stand for {question:.0f} question tokens: nothing is compressed"
            yield _said(row["trial"], "no compression", sentence)


def dead_terms(runs: Runs) -> Iterator[dict[str, Any]]:
    """Loss terms that are on and move nothing."""
    metrics = runs.metrics
    for name in [str(column) for column in metrics if str(column).startswith("gradient/")]:
        term = name.removeprefix("gradient/")
        weight = metrics.get(f"weight/{term}", pd.Series(1.0, index=metrics.index))
        dead = metrics[metrics[name].eq(0) & weight.gt(0)]
        for trial, part in dead.groupby("trial"):
            yield _said(str(trial), "dead term", f"loss term {term} had no gradient at {len(part)} logged steps")


def contaminated(runs: Runs) -> Iterator[dict[str, Any]]:
    """A bridge that should read soft tokens alone and whose prompt holds more text than the frame that every arm has."""
    test = runs.test
    frames = test.groupby(["fingerprint", "evaluator", "arm"])["prompt_tokens"].mean()
    bridged = of_first_reading(test[are(test["arm"], textless)])
    for row in bridged.to_dict("records"):
        frame = frames.get((row["fingerprint"], row["evaluator"], in_place(row["arm"], "no_context")))
        if frame is not None and row["prompt_tokens"] > frame + 0.5:
            sentence = f"the {row['arm']} arm reads {row['prompt_tokens']:.0f} prompt tokens where no context has {frame:.0f}"
            yield _said(row["trial"], "contaminated arm", sentence)


def too_few(runs: Runs) -> Iterator[dict[str, Any]]:
    """Benchmarks with too few problems to show the differences that one would look for."""
    test = of_first_reading(runs.test)
    for (evaluator, count), part in test.groupby(["evaluator", "n"]):
        n = int(str(count))
        effect = minimum_detectable_effect(n, discordant=0.5)
        if effect > DETECTABLE:
            who = _together(part["trial"])
            sentence = f"{n} test problems of {evaluator}: between two that disagree on half of them, a difference below "
            sentence += f"{effect:.2f} would often be missed"
            yield _said(who, "n too small", sentence)


def smoke(runs: Runs) -> Iterator[dict[str, Any]]:
    """Trials of a few steps."""
    if runs.smoke:
        yield _said(
            _together(runs.trials["trial"]), "smoke", "a few steps and problems: they show that everything runs, no more"
        )


def alone(runs: Runs) -> Iterator[dict[str, Any]]:
    """Configurations of one seed: another seed may give another number."""
    trials = runs.trials[runs.trials["complete"].astype(bool) & ~runs.trials["imported"].astype(bool)]
    seeds = trials.groupby("group")["fingerprint"].transform("nunique")
    if (once := trials.loc[seeds == 1, "trial"]).size:
        yield _said(_together(once), "one seed", "its differences are of a checkpoint; of the method another seed must tell")


def outdone(runs: Runs) -> Iterator[dict[str, Any]]:
    """Bridges that the first K tokens of the question beat: as many positions, no translator."""
    for trial, evaluator, label, one in _beaten(runs, textless, "token_budget"):
        sentence = f"the first K tokens of the question as text beat the {label} arm on {evaluator} {_by(one)}"
        yield _said(trial, "token budget is better", sentence)


def harmed(runs: Runs) -> Iterator[dict[str, Any]]:
    """Soft tokens in front of the question's text that make its answers worse."""
    for trial, evaluator, label, one in _beaten(runs, beside_text, "target"):
        sentence = f"the text alone beats the {label} arm on {evaluator} {_by(one)}: soft tokens harm it"
        yield _said(trial, "text is harmed", sentence)


def _beaten(runs: Runs, kind: Kind, rival: str) -> Iterator[tuple[str, str, str, Comparison]]:
    """(trial, benchmark, arm, rival against it) of arms of a kind that another beats, p Holm-corrected over the trials."""
    test = of_first_reading(runs.test)
    pairs: list[tuple[str, str, str, Comparison]] = []
    for row in test[are(test["arm"], kind)].to_dict("records"):
        samples = runs.scores(row["fingerprint"], row["evaluator"])
        scores = samples.pivot(index="problem", columns="arm", values=f"score_{row['reading']}")
        other = in_place(row["arm"], rival)
        if other in scores and row["arm"] in scores and len(both := scores[[row["arm"], other]].dropna()):
            pairs.append((row["trial"], row["evaluator"], row["arm"], compare(both[row["arm"]], both[other])))
    for (*which, _), one in zip(pairs, corrected([pair[-1] for pair in pairs]), strict=True):
        if one.verdict == "better":
            trial, evaluator, label = map(str, which)
            yield trial, evaluator, label, one


def _by(one: Comparison) -> str:
    return f"by {one.difference:.3f} (p {one.p:.1g}, n = {one.n})"


def collapsed(runs: Runs) -> Iterator[dict[str, Any]]:
    """Bridges that answer with far fewer different texts than the target does when it reads the question."""
    test = of_first_reading(runs.test)
    mine = test[are(test["arm"], bridge)].drop_duplicates(["fingerprint", "evaluator"])
    of_text: dict[tuple[str, str], float] = {}  # a thousand trials share few readings of the text
    for row in mine.to_dict("records"):
        fingerprint, evaluator = row["fingerprint"], row["evaluator"]
        samples = runs.samples(fingerprint, evaluator, "test", int(row["step"]))
        if samples is None:
            continue
        known = runs.baseline_keys(fingerprint, "test").get("target", fingerprint), evaluator
        if known not in of_text:
            of_text[known] = different(runs.answers(fingerprint, evaluator)).get("target", 1.0)
        for arm, share in different(samples).items():
            if is_a(arm, bridge) and share < UNIQUE * of_text[known]:
                sentence = f"{share:.0%} of its completions differ from one another, of the target's {of_text[known]:.0%}"
                yield _said(row["trial"], "collapse", f"{arm}: {sentence}")


def different(samples: pd.DataFrame) -> dict[str, float]:
    """Share of different completions of each arm."""
    counts = samples.groupby("arm")["completion"].agg(["nunique", "size"])
    return {str(arm): float(share) for arm, share in (counts["nunique"] / counts["size"]).items()}


def earlier(runs: Runs) -> Iterator[dict[str, Any]]:
    """Trials that were kept before it was looked at what they read."""
    trials = runs.trials
    if trials["earlier"].any():
        sentence = (
            "its models, prompts and problems are not on record: its numbers stand beside others, and nothing of it is reused"
        )
        yield _said(_together(trials.loc[trials["earlier"].astype(bool), "trial"]), EARLIER, sentence)


def imported(runs: Runs) -> Iterator[dict[str, Any]]:
    """What the import found about runs from elsewhere."""
    trials = runs.trials
    for trial in trials[trials["imported"]].to_dict("records"):
        result = runs.runs[trial["fingerprint"]].result() or {}
        for note in result.get("notes", ()):
            yield _said(trial["trial"], "imported", note)
