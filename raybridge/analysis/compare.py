"""Two arms on the same problems: which evaluations they come from, and what the statistics say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from raybridge.analysis.chosen import judged_by
from raybridge.analysis.kinds import bridge, ordered
from raybridge.analysis.measures import readings_of
from raybridge.analysis.replicates import REPLICATES, bands_of_replicates
from raybridge.errors import unknown
from raybridge.results import Results, TrialRun
from raybridge.statistics import Comparison, compare, corrected, minimum_detectable_effect, picked, verdict

__all__ = ["Asked", "Compared", "Side", "compare_readings", "default_arm", "findings", "sentence"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """An arm of a trial at a step, by one reading, on the problems that are compared."""

    trial: str
    arm: str
    step: int
    reading: str
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A against B: the difference is A minus B, a win a problem where A scored higher.

    band: the A/A band that the verdict was held against, where one is known.
    """

    a: Side
    b: Side
    result: Comparison
    band: float | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One side as it is asked for: an arm of a trial's evaluation, at its last step if none is given."""

    run: TrialRun
    arm: str
    on: str
    split: str = "test"
    step: int | None = None

    def scores(self) -> tuple[int, pd.DataFrame]:
        """(step, scores by problem, a column a reading)."""
        step, samples = samples_of(self.run, self.on, self.split, self.step)
        return step, arm_scores(samples, self.arm, self.run.path.name)

    def __str__(self) -> str:
        return f"{self.run.path.name} ({self.arm})"


def compare_readings(a: Asked, b: Asked, *, shared: bool = False) -> list[Compared]:
    """Compare a with b by every reading, p Holm-corrected over the readings, beside the A/A band for the models of a."""
    known = bands_of_replicates(Results(a.run.root), a.on, a.split, a.arm, like=a.run.config)
    return _corrected(_sides(a, b, shared=shared), known)


def findings(run: TrialRun, on: str, bridge: str) -> list[Compared]:
    """An imported run by its first reading: final against peak, and bridge against both models; p corrected over these.

    A final that is the peak itself is not compared with it.
    """
    result = run.result()
    assert result is not None
    final = Asked(run=run, arm=bridge, on=on)
    peak = Asked(run=run, arm=bridge, on=on, step=result["peak_step"])
    others = [Asked(run=run, arm=arm, on=on) for arm in ("target", "source")]
    earlier = [] if result["peak_step"] == final.scores()[0] else [peak]
    return _corrected([_sides(final, one, shared=True)[0] for one in (*earlier, *others)])


def sentence(one: Compared, *, typed: bool = False) -> str:
    """A comparison in words; the word itself comes from the tests and from nothing else.

    typed: whether A and B are what a person typed, and are called so.
    """
    a, b, told = one.a, one.b, one.result
    left, right, where = _called(a, b)
    asked = f"A ({left}) against B ({right})" if typed else f"{left} against {right}"
    low, high = told.interval
    unranked = ""
    if one.band is None and a.trial != b.trial:
        unranked = f"; of two checkpoints, no ranking (no A/A band: `{REPLICATES}` has fewer than three seeds of these models)"
    said = (
        f"{asked}{where}, {a.reading}: {a.accuracy:.3f} against {b.accuracy:.3f}, difference {told.difference:+.3f} "
        f"[{low:+.3f}, {high:+.3f}], {told.wins} won and {told.losses} lost of {told.n}, p {told.p:.2g} (Holm){unranked}: "
        f"{told.verdict}"
    )
    if (a.trial, a.arm) == (b.trial, b.arm):
        said += ", corrected for the evaluations that both were picked among"
        fell = "worse" if a.step > b.step else "better"
        said += ", no degradation shown" if told.verdict == "tie" else ", a degradation" if told.verdict == fell else ""
    if one.band is not None:
        inside = "inside" if abs(told.difference) <= one.band else "outside"
        said += f" ({inside} the A/A band of {one.band:.3f})"
    if told.verdict != "tie":
        return said
    effect = minimum_detectable_effect(told.n, discordant=max(told.wins + told.losses, 1) / told.n)
    if effect == math.inf:
        return said + f" ({told.n} problems that disagree this seldom cannot show a difference)"
    return said + f" ({told.n} problems that disagree this often show a difference of {effect:.3f} four times in five)"


def _called(a: Side, b: Side) -> tuple[str, str, str]:
    """What each side is called: by that in which they differ; and where both stand."""
    if a.trial != b.trial:
        arms = [a.arm, b.arm] if a.arm != b.arm else ["", ""]
        left, right = (" ".join(filter(None, [one.trial, arm])) for one, arm in zip((a, b), arms, strict=True))
        return left, right, ""
    if a.arm == b.arm:
        return f"{a.arm} at step {a.step}", f"step {b.step}", ""
    return a.arm, b.arm, f" at step {a.step}"


Pair = tuple[Side, Side, Comparison]


def _sides(a: Asked, b: Asked, *, shared: bool) -> list[Pair]:
    """Both sides by each reading that both have, compared on the same problems.

    Two evaluations of one arm of one trial were picked among all of them.
    """
    (step_a, scores_a), (step_b, scores_b) = a.scores(), b.scores()
    if (a.run.path.resolve(), a.arm, step_a) == (b.run.path.resolve(), b.arm, step_b):
        raise ValueError(f"{a} at step {step_a} on both sides; --arm-b, --step-a or --step-b chooses another")
    left, right = paired(scores_a, scores_b, shared=shared, names=(str(a), str(b)))
    looks = len({at for name, split, at in a.run.sampled() if (name, split) == (a.on, a.split)})
    found: list[Pair] = []
    for reading in (one for one in map(str, left) if one in right):
        side_a = Side(trial=a.run.path.name, arm=a.arm, step=step_a, reading=reading, accuracy=float(left[reading].mean()))
        side_b = Side(trial=b.run.path.name, arm=b.arm, step=step_b, reading=reading, accuracy=float(right[reading].mean()))
        one = compare(right[reading], left[reading])
        steps_of_one = (side_a.trial, side_a.arm) == (side_b.trial, side_b.arm)
        found.append((side_a, side_b, picked(one, looks=looks) if steps_of_one else one))
    return found


def _corrected(pairs: Sequence[Pair], bands: Mapping[str, float] | None = None) -> list[Compared]:
    compared = []
    for (a, b, _), result in zip(pairs, corrected([one for _, _, one in pairs]), strict=True):
        band = (bands or {}).get(a.reading)
        word = verdict(result.difference, result.p, band=band)
        compared.append(Compared(a=a, b=b, result=replace(result, verdict=word), band=band))
    return compared


def default_arm(run: TrialRun, on: str, split: str) -> str:
    """The arm that a trial is compared by: that it was trained for, or what there is."""
    _, samples = samples_of(run, on, split)
    own = judged_by(run.result() or {}, samples["arm"])
    return next(one for one in [own, *ordered(samples["arm"], bridge), *samples["arm"]] if one in set(samples["arm"]))


def samples_of(run: TrialRun, evaluator: str, split: str, step: int | None = None) -> tuple[int, pd.DataFrame]:
    """(step, sample rows) of one evaluation of a trial; of its last one if no step is given."""
    sampled = [(at, part) for name, part, at in run.sampled() if name == evaluator]
    steps = sorted(at for at, part in sampled if part == split)
    if not steps:
        others = sorted({part for _, part in sampled})
        there = f"; it was on {', '.join(others)} (--split)" if others else ""
        elsewhere = sorted({f"{name} ({part})" for name, part, _ in run.sampled()})
        if not others:
            there = f"; it was on {', '.join(elsewhere)}" if elsewhere else ", nor on anything yet"
        raise ValueError(f"{run.path.name} was not evaluated on {evaluator}, split {split}{there}")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise ValueError(f"{run.path.name} was not evaluated at step {chosen}; valid: {', '.join(map(str, steps))}")
    frame = run.samples(evaluator, split, chosen)
    assert frame is not None
    return chosen, frame


def arm_scores(samples: pd.DataFrame, arm: str, where: str) -> pd.DataFrame:
    """Scores of one arm by problem, a column a reading."""
    part = samples[samples["arm"] == arm]
    if part.empty:
        raise unknown("arm", arm, list(dict.fromkeys(samples["arm"])), where)
    scores = part.set_index("problem")[[f"score_{reading}" for reading in readings_of(part)]]
    scores = scores.rename(columns=lambda column: column.removeprefix("score_"))
    if scores.index.has_duplicates:
        twice = scores.index[scores.index.duplicated()][0]
        raise ValueError(f"{where}: problem {twice} was answered twice by {arm}")
    if scores.isna().to_numpy().any():
        raise ValueError(f"{where}: {int(scores.isna().any(axis=1).sum())} problems have no score from {arm}")
    return scores


def paired(a: pd.DataFrame, b: pd.DataFrame, *, shared: bool, names: tuple[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of scores on the same problems in the same order; other problems are refused, or left out if `shared`."""
    both = a.index.intersection(b.index)
    if both.empty:
        raise ValueError(
            f"{names[0]} and {names[1]} were evaluated on different problems: they share none of {len(a)} and {len(b)}"
        )
    if not shared and not len(both) == len(a) == len(b):
        raise ValueError(
            f"{names[0]} and {names[1]} were evaluated on different problems: {len(a)} and {len(b)}, of which {len(both)} are "
            "shared; --shared compares on those"
        )
    return a.loc[both], b.loc[both]
