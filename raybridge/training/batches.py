"""The token batches of a trial, for its source, its target and any other target.

Shapes: B problems of this worker, T source positions, L source layers, S source width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import cast

from torch import Tensor

from raybridge.data import Problem
from raybridge.evaluation.benchmarks import every_problem, exemplars_of
from raybridge.evaluation.kept_source import Source
from raybridge.losses.bridge import SHARED_TOKENS, Batch
from raybridge.models.frozen import FrozenLM
from raybridge.models.lent import Lent
from raybridge.models.prefill import lend
from raybridge.models.prompts import REPEAT_CUE, Behind, Frame, frame
from raybridge.training.mixing import Asked, Mixing, dealt
from raybridge.trial import Trial
from raybridge.world import World

CHECKED = 8  # questions whose tokens behind exemplars are compared with those without
LONGEST = 2048  # tokens of a question that a loss may put as text where soft tokens stand
Row = tuple[list[int], list[int], Behind, list[int], list[str], list[int]]  # of a question, in the order of `Batch`


class Batches:
    """The token batches of a trial: what a step sees depends on the seed and the step alone.

    problems: that are trained on, with their answers; None for the train split as it is.
    """

    def __init__(
        self,
        trial: Trial,
        source: Source,
        target: FrozenLM,
        others: Mapping[str, FrozenLM] | None = None,
        problems: Sequence[Problem] | None = None,
    ) -> None:
        assert problems is not None or trial.own_answers is None, "who trains on own answers says what they are"
        self.problems = list(every_problem(trial.evaluator, "train") if problems is None else problems)
        if len(self.problems) < trial.problems_a_batch:
            answered = " that have an answer of the target's own" if trial.own_answers else ""
            raise ValueError(
                f"trial {trial.name}: batch {trial.batch} has {trial.problems_a_batch} problems, more than the "
                f"{len(self.problems)} problems of train{answered}"
            )
        self.trial = trial
        self.mixing = Mixing(trial, self.problems)
        self.source = frame(cast(FrozenLM, source), trial.evaluator)  # of a source a prompt needs the tokenizer alone
        self.target = frame(target, trial.evaluator)
        self.repeat = frame(target, trial.evaluator, after=REPEAT_CUE)
        shots = exemplars_of(trial.evaluator) if trial.exemplars else ()
        self.asked = frame(target, trial.evaluator, exemplars=shots) if shots else self.target
        if shots:
            check_seams(self.target, self.asked, self.problems[:CHECKED])
        self.others = {name: Batches(trial, source, other, problems=self.problems) for name, other in (others or {}).items()}
        self._rows: dict[str, Row] = {}
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._ahead: tuple[tuple[int, int, int], Future[Batch]] | None = None

    @cached_property
    def lent(self) -> Lent | None:
        """The keys and values of what stands before every answer, where exemplars do and the target can share them."""
        if self.asked is self.target:
            return None
        longest = max(self.trial.translator.most_soft_tokens, LONGEST) + len(self.asked.after) + SHARED_TOKENS
        return lend(self.target.lm, self.asked.before, longest=longest)

    def at(self, step: int, world: World) -> Batch:
        """This worker's share of the batch of a step (from 0), made now or before (`prepare`)."""
        ahead, self._ahead = self._ahead, None
        return ahead[1].result() if ahead and ahead[0] == (step, world.rank, world.size) else self.of_step(step, world)

    def prepare(self, step: int, world: World) -> None:
        """Have the batch of a step made, and what is kept of its states fetched, on a thread of its own.

        Asked for when the device has been told of all that a step is: before that the two threads would wait for each other.
        """
        if step < self.trial.steps:
            self._ahead = ((step, world.rank, world.size), self._aside.submit(self._ahead_of, step, world))

    def of_step(self, step: int, world: World) -> Batch:
        """This worker's share of the batch of a step, made now."""
        asked = self.mixing.at(step)
        places = dealt(asked, world.size)
        mine = places[world.rank]
        return self.tokens([asked[place] for place in mine], places=mine, order=[place for each in places for place in each])

    def _ahead_of(self, step: int, world: World) -> Batch:
        batch = self.of_step(step, world)
        self.source.lm.ahead(self.source.before, batch.source_questions, self.trial.translator.layers)
        return batch

    def tokens(
        self, asked: Sequence[Asked], *, places: Sequence[int] | None = None, order: Sequence[int] | None = None
    ) -> Batch:
        """Problems and texts as token rows; each problem is tokenized once. places, order: of `Batch`; None of a whole one."""
        places, order = places or range(len(asked)), order or range(len(asked))
        new = [one for one in asked if isinstance(one, str) or one.id not in self._rows]
        made = dict(zip(map(_name, new), self._tokenized(new), strict=True))
        self._rows |= {one.id: made[one.id] for one in new if not isinstance(one, str)}
        questions, as_target, texts, answers, answer_pieces, repeats = zip(
            *(made.get(name) or self._rows[name] for name in map(_name, asked)), strict=True
        )
        return Batch(
            source_questions=questions,
            target_questions=as_target,
            target_texts=texts,
            answers=answers,
            answer_pieces=answer_pieces,
            repeats=repeats,
            places=places,
            order=order,
            others={name: other.tokens(asked, places=places, order=order) for name, other in self.others.items()},
        )

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The source's states (B, T, L, S) of a batch's questions, in the layers that the translator reads, and their mask."""
        return self.source.lm.hidden_states(self.source.before, batch.source_questions, self.trial.translator.layers)

    def _tokenized(self, asked: Sequence[Asked]) -> list[Row]:
        """Their tokens. Where exemplars stand before a question its tokens are the same (`check_seams`)."""
        questions = [one if isinstance(one, str) else one.question for one in asked]
        answers = iter(self.target.answers([one.rationale for one in asked if not isinstance(one, str)]))
        rows = zip(
            self.source.questions(questions),
            self.target.questions(questions),
            self.target.behind(questions),
            self.repeat.answers(questions),
            strict=True,
        )
        made: list[Row] = []
        for one, (question, as_target, text, repeat) in zip(asked, rows, strict=True):
            answer = [] if isinstance(one, str) else next(answers)
            pieces = self.target.lm.tokenizer.convert_ids_to_tokens(answer)
            made.append((question, as_target, text, answer, pieces, repeat))
        return made


def _name(asked: Asked) -> str:
    """What tells one from all others: of a text what it says, which is no problem's id."""
    return f"text: {asked}" if isinstance(asked, str) else asked.id


def check_seams(alone: Frame, behind_exemplars: Frame, problems: Sequence[Problem]) -> None:
    """Refuse a tokenizer that splits a question otherwise where exemplars stand before it."""
    questions = [problem.question for problem in problems]
    same = alone.behind(questions) == behind_exemplars.behind(questions)
    if not same or (alone.after, alone.answer_gap) != (behind_exemplars.after, behind_exemplars.answer_gap):
        raise ValueError(
            f"model {alone.lm.name!r}: its tokenizer splits a question otherwise behind exemplars; train without (exemplars)"
        )


def tokens_of(batch: Batch) -> int:
    """Tokens that a worker's share shows to the source and asks of the target, soft tokens not counted."""
    return sum(len(row) for rows in (batch.source_questions, batch.answers, batch.repeats) for row in rows)
