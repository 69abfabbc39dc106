"""The source reads the questions of train once, ahead of training, where the disk has room for its states of them.

They are read by whoever evaluates, in parallel, and found on disk by every worker of every trial that asks the same.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from raybridge.data import Problem
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.kept_source import KeptSource, Reading
from raybridge.models.prompts import frame
from raybridge.trial import Trial

PART = 256  # questions that are read, and kept, together
SAMPLE = 512  # questions by which the size of all of them is told

log = logging.getLogger(__name__)


def read_ahead(trial: Trial, source: KeptSource, answerer: Answerer) -> None:
    """Have every question of train read and kept; nothing where that would be more than the budget, which is said."""
    around, layers = frame(source.as_lm, trial.evaluator), trial.translator.layers
    rows = around.questions([problem.question for problem in trial.evaluator.problems("train")])
    with source.shelf(around.before).alone():  # another trial may be reading the same: wait for what it finds
        lacking = source.lacking(around.before, rows, layers)
        if not lacking:
            return
        more = source.bytes(sum(map(len, lacking)), layers)
        if not source.kept.take(more):
            log.warning(
                "the states of train would take %.1f GB of disk, and %.1f of %.1f GB are left for states: %s reads every batch "
                "anew, in every worker (--states-budget)",
                *(size / 1e9 for size in (more, source.kept.most - source.kept.used, source.kept.most)),
                trial.source,
            )
            return
        log.info("%s reads %d questions of train once: %.1f GB", trial.source, len(lacking), more / 1e9)
        parts = [tuple(map(tuple, lacking[start : start + PART])) for start in range(0, len(lacking), PART)]
        readings = [Reading(source=trial.source, before=around.before, rows=part, layers=layers) for part in parts]
        for done, _ in enumerate(answerer.keep(readings), start=1):
            log.info("read: %d of %d questions", min(done * PART, len(lacking)), len(lacking))


def positions_of_a_question(source: KeptSource, trial: Trial, problems: Sequence[Problem]) -> float:
    """Mean length of a question in the source's tokens, by the first SAMPLE of them."""
    some = problems[:SAMPLE]
    return sum(map(len, frame(source.as_lm, trial.evaluator).questions([one.question for one in some]))) / len(some)
