"""The source reads all questions once, ahead of training, where the disk has room for its states of them.

They are read by whoever evaluates, in parallel, and found on disk by every worker of every trial that asks the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from raybridge.data import SPLITS, Problem, Split
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.benchmarks import every_problem, some_problems
from raybridge.evaluation.kept_source import KeptSource, Reading
from raybridge.evaluation.setting import problems_of
from raybridge.models.frozen import FrozenLM
from raybridge.models.prompts import frame
from raybridge.results.states import States
from raybridge.training.fitting import PROBLEMS as FITTED_FROM
from raybridge.training.mixing import seen
from raybridge.training.own_answers import questions
from raybridge.trial import Trial

PART = 256  # questions that are read, and kept, together
SAMPLE = 512  # questions by which the size of all of them is told
JUDGED: tuple[Split, ...] = ("dev", "test")
MANY = 10**9  # more than there are

log = logging.getLogger(__name__)


def rows_read(trial: Trial, source: KeptSource) -> list[list[int]]:
    """The token rows of all questions that training and evaluation ask. It makes no tensor but of integers."""
    return frame(source.as_lm, trial.evaluator).questions([problem.question for problem in _asked(trial)])


def _asked(trial: Trial) -> list[Problem]:
    return [*asked_of_train(trial), *(problem for split in JUDGED for problem in problems_of(trial, split))]


def read_ahead(trial: Trial, source: KeptSource, answerer: Answerer, rows: list[list[int]] | None = None) -> bool:
    """Have what training and evaluation ask read and kept, and whether it is: not where that is more than the budget.

    rows: what `rows_read` gave, where somebody has asked.
    """
    around, layers = frame(source.as_lm, trial.evaluator), trial.translator.layers
    rows = rows_read(trial, source) if rows is None else rows
    with source.shelf(around.before).alone():  # another trial may be reading the same: wait for what it finds
        lacking = source.lacking(around.before, rows, layers)
        if not lacking:
            return True
        more = source.more(around.before, lacking, layers)
        if source.kept.take(more):
            log.info("%s reads %d questions once: %s", trial.source, len(lacking), gb(more))
            parts = [tuple(map(tuple, lacking[start : start + PART])) for start in range(0, len(lacking), PART)]
            readings = [Reading(source=trial.source, before=around.before, rows=part, layers=layers) for part in parts]
            for done, _ in enumerate(answerer.keep(readings), start=1):
                log.info("asked: %d of %d questions", min(done * PART, len(lacking)), len(lacking))
            # Others write to other shelves meanwhile, and what they leave may be less than it was.
            lacking = source.lacking(around.before, lacking, layers)
            if not lacking:
                return True
            more = source.more(around.before, lacking, layers)
        log.warning(
            "the states of %d questions would take %s of disk, and of %s for states %s is used: %s reads them anew in each "
            "batch, in every worker (--states-budget)",
            len(lacking),
            *(gb(size) for size in (more, source.kept.most, source.kept.used)),
            trial.source,
        )
        return False


def asked_of_train(trial: Trial) -> list[Problem]:
    """The problems of train that a trial's steps see, and those that a translator is fitted from.

    None of a trial with further texts: few of them are seen twice, and the source that reads them in every batch reads the
    questions beside them. All where the target's own answers say which are problems.
    """
    if trial.mixture:
        return []
    if trial.own_answers:
        return list(dict.fromkeys([*every_problem(trial.evaluator, "train"), *questions(trial)]))
    problems = every_problem(trial.evaluator, "train")
    return [problems[i] for i in sorted({*seen(trial, len(problems)), *range(min(FITTED_FROM, len(problems)))})]


def states_told(trials: Sequence[Trial], kept: States, *, device: str) -> tuple[list[str], bool]:
    """What the states of all questions take on disk, a line a source and its prompt; and whether they are within the budget.

    Lengths are those of SAMPLE questions, unless some of the states are there. device: what computes, as torch calls its kind.
    """
    told, more = [], 0.0
    for asked in _by_shelf(trials, kept, device).values():
        first, source = asked[0]
        layers = sorted({layer for trial, _ in asked for layer in trial.translator.layers})
        a_layer = source.bytes(1, layers[:1]) * _positions(asked)
        more += _more(asked, layers) if _begun(asked) else a_layer * len(layers)
        told.append(
            f"states of {first.source} on {first.evaluator.name}: about {gb(a_layer * len(layers))} on disk, {gb(a_layer)} a "
            f"layer (layers {', '.join(map(str, layers))})"
        )
    if not told:
        return [], True
    fit = kept.take(int(more))
    there = f"{gb(kept.used)} are there, and {gb(more)} are to come"
    beyond = "" if fit else "; what is beyond it is read anew for every batch, by the source in every worker"
    anew = [
        f"{trial.name}: of train nothing is kept, since few further texts come twice: the source reads it, in every worker"
        for trial in trials
        if trial.mixture
    ]
    return [*told, f"states may take {gb(kept.most)} of disk (--states-budget): {there}{beyond}", *anew], fit


def _begun(asked: Sequence[tuple[Trial, KeptSource]]) -> bool:
    """Whether any states are on their shelf."""
    trial, source = asked[0]
    return source.shelf(frame(source.as_lm, trial.evaluator).before).path.exists()


def _more(asked: Sequence[tuple[Trial, KeptSource]], layers: Sequence[int]) -> float:
    """Bytes of the states that these trials ask of one source and that are not there."""
    trial, source = asked[0]
    around = frame(source.as_lm, trial.evaluator)
    texts = dict.fromkeys(problem.question for one, _ in asked for problem in _asked(one))
    return source.more(around.before, around.questions(list(texts)), layers)


def _by_shelf(trials: Sequence[Trial], kept: States, device: str) -> dict[tuple[str, ...], list[tuple[Trial, KeptSource]]]:
    """Trials that share states, each with its source, which is not loaded."""
    found: dict[tuple[str, ...], list[tuple[Trial, KeptSource]]] = {}
    for trial in trials:
        source = not_loaded(trial, kept, device)
        before = frame(source.as_lm, trial.evaluator).before
        found.setdefault((str(source.shelf(before).path), trial.evaluator.name), []).append((trial, source))
    return found


def _positions(asked: Sequence[tuple[Trial, KeptSource]]) -> float:
    """Positions of the questions that these trials ask of one source, about."""
    trial, source = asked[0]
    counts = {
        "train": len({problem.id for one, _ in asked for problem in asked_of_train(one)}),
        "dev": max(one.dev_problems or MANY for one, _ in asked),
        "test": max(one.test_problems or MANY for one, _ in asked),
    }
    total = 0.0
    for split in SPLITS:
        there = len(every_problem(trial.evaluator, split))
        some = some_problems(trial.evaluator, split, min(SAMPLE, there))
        rows = frame(source.as_lm, trial.evaluator).questions([problem.question for problem in some])
        total += sum(map(len, rows)) / len(rows) * (counts[split] if split == "train" else min(counts[split], there))
    return total


def gb(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def not_loaded(trial: Trial, kept: States, device: str) -> KeptSource:
    """A trial's source as somebody knows it who computes nothing. device: what computes, as torch calls its kind."""
    return KeptSource(trial.source, device=torch.device(device), kept=kept, load=_not_here)


def _not_here() -> FrozenLM:
    raise AssertionError("who computes nothing loads no model")
