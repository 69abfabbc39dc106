"""The token batches of a trial, for its source, its target and any other target.

Shapes: B problems of this worker, T source positions, L source layers, S source width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from raybridge.data import Problem
from raybridge.evaluation.kept_source import Source
from raybridge.losses.bridge import Batch
from raybridge.models.frozen import FrozenLM
from raybridge.models.prompts import REPEAT_CUE, Behind, frame
from raybridge.trial import Trial
from raybridge.world import World


class Batches:
    """The token batches of a trial: which problems a step sees depends on the seed and the step alone."""

    def __init__(self, trial: Trial, source: Source, target: FrozenLM, others: Mapping[str, FrozenLM] | None = None) -> None:
        self.problems = trial.evaluator.problems("train")
        if len(self.problems) < trial.batch:
            raise ValueError(
                f"trial {trial.name}: batch {trial.batch} is larger than the {len(self.problems)} problems of train"
            )
        self.trial = trial
        self.source = frame(cast(FrozenLM, source), trial.evaluator)  # of a source a prompt needs the tokenizer alone
        self.target = frame(target, trial.evaluator)
        self.repeat = frame(target, trial.evaluator, after=REPEAT_CUE)
        self.others = {name: Batches(trial, source, other) for name, other in (others or {}).items()}
        self._rows: dict[str, tuple[list[int], list[int], Behind, list[int], list[str], list[int]]] = {}

    def at(self, step: int, world: World) -> Batch:
        """This worker's share of the batch of a step (from 0)."""
        epoch, number = divmod(step, len(self.problems) // self.trial.batch)
        order = of_epoch(self.trial, len(self.problems), epoch)
        mine = world.share(order[number * self.trial.batch : (number + 1) * self.trial.batch].tolist())
        return self.tokens([self.problems[i] for i in mine], offset=world.rank * len(mine))

    def tokens(self, problems: Sequence[Problem], *, offset: int = 0) -> Batch:
        """Problems as token rows; each problem is tokenized once. offset: place of the first in the global batch."""
        self._tokenize([problem for problem in problems if problem.id not in self._rows])
        questions, as_target, texts, answers, answer_pieces, repeats = zip(*(self._rows[p.id] for p in problems), strict=True)
        return Batch(
            source_questions=questions,
            target_questions=as_target,
            target_texts=texts,
            answers=answers,
            answer_pieces=answer_pieces,
            repeats=repeats,
            offset=offset,
            others={name: other.tokens(problems, offset=offset) for name, other in self.others.items()},
        )

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The source's states (B, T, L, S) of a batch's questions, in the layers that the translator reads, and their mask."""
        return self.source.lm.hidden_states(self.source.before, batch.source_questions, self.trial.translator.layers)

    def _tokenize(self, problems: Sequence[Problem]) -> None:
        questions, rationales = ([getattr(problem, name) for problem in problems] for name in ("question", "rationale"))
        rows = zip(
            self.source.questions(questions),
            self.target.questions(questions),
            self.target.behind(questions),
            self.target.answers(rationales),
            self.repeat.answers(questions),
            strict=True,
        )
        for problem, (question, as_target, text, answer, repeat) in zip(problems, rows, strict=True):
            pieces = self.target.lm.tokenizer.convert_ids_to_tokens(answer)
            self._rows[problem.id] = (question, as_target, text, answer, pieces, repeat)


def of_epoch(trial: Trial, count: int, epoch: int) -> Tensor:
    """The order in which an epoch (from 0) goes through so many problems: the seed's, each problem once."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(trial.seed * 1_000_003 + epoch))


def seen(trial: Trial, count: int) -> list[int]:
    """Which of so many problems a trial's steps see, in their order."""
    if trial.steps >= count // trial.batch:
        return list(range(count))
    return sorted(of_epoch(trial, count, 0)[: trial.steps * trial.batch].tolist())


def tokens_of(batch: Batch) -> int:
    """Tokens that a worker's share shows to the source and asks of the target, soft tokens not counted."""
    return sum(len(row) for rows in (batch.source_questions, batch.answers, batch.repeats) for row in rows)
