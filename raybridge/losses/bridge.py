"""What a loss looks at: a batch in tokens, soft tokens in their place before the target, and what the target makes of them.

Shapes: B problems of this worker, K soft tokens, D target width, T source positions, L source layers, S source width,
A answer tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from raybridge.losses.everyone import Everyone
from raybridge.models.frozen import FrozenLM
from raybridge.models.lent import Lent
from raybridge.models.pieces import Piece, places
from raybridge.models.prompts import Behind
from raybridge.translators import TranslatorModule
from raybridge.world import World

SHARED_TOKENS = 256  # answer tokens that the losses of a step read in one pass of the target


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's share of a step, in tokens. The questions are rows for the source and rows for the target."""

    source_questions: Sequence[Sequence[int]]
    target_questions: Sequence[Sequence[int]]
    target_texts: Sequence[Behind]  # the questions as text in the target's prompt, and what follows each
    answers: Sequence[Sequence[int]]  # empty of a text that has none
    answer_pieces: Sequence[Sequence[str]]  # the answers' tokens as the tokenizer writes them
    repeats: Sequence[Sequence[int]]  # the question as an answer to the repeat cue, with its end token
    places: Sequence[int]  # where each stands in the global batch
    order: Sequence[int]  # the same of all workers, one's behind another's
    others: Mapping[str, Batch] = field(default_factory=dict)  # the same problems in the tokens of other targets

    def only(self, rows: Sequence[int]) -> Batch:
        """Some rows of it, in their order."""
        return Batch(
            source_questions=[self.source_questions[row] for row in rows],
            target_questions=[self.target_questions[row] for row in rows],
            target_texts=[self.target_texts[row] for row in rows],
            answers=[self.answers[row] for row in rows],
            answer_pieces=[self.answer_pieces[row] for row in rows],
            repeats=[self.repeats[row] for row in rows],
            places=[self.places[row] for row in rows],
            order=self.order,
            others={name: other.only(rows) for name, other in self.others.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A text that the target read after a prompt: the last hidden states that predict its tokens, and the tokens."""

    target: FrozenLM
    hidden_BAD: Tensor
    ids_BA: Tensor
    lengths: Sequence[int]

    @cached_property
    def nll(self) -> Tensor:
        """NLL (B, A) of each token; zero behind a row's end."""
        return self.target.states_nll(self.hidden_BAD, self.ids_BA, self.lengths)

    def states(self, most: int) -> Tensor:
        """The states (N, D) that predict the first tokens of each row, so many at most, one row's behind another's."""
        lengths = [min(length, most) for length in self.lengths]
        real_N = places(lengths, self.ids_BA.shape[1], self.hidden_BAD.device)
        return self.hidden_BAD.flatten(0, 1).index_select(0, real_N)


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What a loss looks at: the translator, the soft tokens it wrote, the target, and the prompt around their place.

    What the target makes of them is computed when the first loss asks for it and kept for the others. together: whether this
    step's losses ask for answers and for repetitions; one pass then reads both, their beginning once if it can.
    before_repeat: what stands before a question that is repeated, where exemplars stand before one that is answered. lent: the
    keys and values of `before`, where all prompts of answers share them. gathered: what is known of all workers' problems,
    where a loss compares. share, start: how many problems the worker has, and which of them is the first of these; None where
    these are all.
    """

    module: TranslatorModule
    states_BTLS: Tensor
    mask_BT: Tensor
    soft_BKD: Tensor
    target: FrozenLM
    before: tuple[int, ...]
    after: tuple[int, ...]
    after_repeat: tuple[int, ...]
    batch: Batch
    world: World
    seed: int
    step: int
    together: bool = False
    before_repeat: tuple[int, ...] | None = None
    lent: Lent | None = None
    others: Mapping[str, Bridge] = field(default_factory=dict)  # the same latents before other targets
    gathered: Everyone | None = None
    share: int | None = None
    start: int = 0

    @property
    def problems(self) -> int:
        """N, of the global batch."""
        return self.world.size * (len(self.soft_BKD) if self.share is None else self.share)

    @property
    def place(self) -> slice:
        """Where its problems stand among those of all workers, one's behind another's."""
        first = self.world.rank * (self.problems // self.world.size) + self.start
        return slice(first, first + len(self.soft_BKD))

    @cached_property
    def everyone(self) -> Everyone:
        """All problems of the global batch, for a loss that `compares`."""
        assert self.gathered is not None, "a loss that looks at everyone says that it compares"
        return self.gathered

    def behind(self, *place: Piece) -> list[Piece]:
        """The prompt of an answer behind `before`, with these pieces in the question's place."""
        return [*place, self.target.text_piece([self.after] * len(self.soft_BKD))]

    def behind_text(self, *place: Piece) -> list[Piece]:
        """The same where these pieces end as the question does as text."""
        return [*place, self.target.text_piece([text.after for text in self.batch.target_texts])]

    def read(self, behind: Sequence[Piece], rows: Sequence[Sequence[int]]) -> Continuation:
        """The target reads rows of tokens after `before` and these pieces."""
        before = [] if self.lent else [self.target.text_piece([self.before] * len(rows))]
        return self._read([*before, *behind], rows, lent=self.lent)

    def read_answers(self, rows: Sequence[Sequence[int]]) -> Continuation:
        """The target reads rows of tokens as answers to the soft tokens."""
        return self.read(self.behind(self.soft), rows)

    def read_repeats(self, rows: Sequence[Sequence[int]]) -> Continuation:
        """The target reads rows of tokens as repetitions of the soft tokens' questions, which have no exemplars."""
        before = self.before if self.before_repeat is None else self.before_repeat
        first, last = (self.target.text_piece([ids] * len(rows)) for ids in (before, self.after_repeat))
        return self._read([first, self.soft, last], rows)

    def _read(self, pieces: Sequence[Piece], rows: Sequence[Sequence[int]], *, lent: Lent | None = None) -> Continuation:
        hidden_BAD, ids_BA, _ = self.target.continuation_states(pieces, rows, lent=lent)
        return Continuation(target=self.target, hidden_BAD=hidden_BAD, ids_BA=ids_BA, lengths=list(map(len, rows)))

    def only(self, rows: Sequence[int]) -> Bridge:
        """The bridge of some of its problems, in their order; consecutive ones where a loss compares them to others."""
        part = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] + 1 == len(rows) else list(rows)
        return replace(
            self,
            start=self.start + rows[0],
            share=self.problems // self.world.size,
            states_BTLS=self.states_BTLS[part],
            mask_BT=self.mask_BT[part],
            soft_BKD=self.soft_BKD[part],
            batch=self.batch.only(rows),
            others={name: other.only(rows) for name, other in self.others.items()},
        )

    @cached_property
    def soft(self) -> Piece:
        """The soft tokens as a piece of the target's prompt."""
        return self.target.soft_piece(self.soft_BKD)

    @cached_property
    def question(self) -> Piece:
        """The question as text, as a piece of the target's prompt."""
        return self.target.text_piece([text.question for text in self.batch.target_texts])

    @cached_property
    def student(self) -> Continuation:
        """The answers (first SHARED_TOKENS of each) after the soft tokens."""
        if self.together:
            return self._both[0]
        return self.read_answers(cut(self.batch.answers, SHARED_TOKENS))

    @cached_property
    def repeated(self) -> Continuation:
        """The questions (first SHARED_TOKENS of each) as the target repeats them after the soft tokens."""
        if self.together:
            return self._both[1]
        return self.read_repeats(cut(self.batch.repeats, SHARED_TOKENS))

    @cached_property
    def _both(self) -> tuple[Continuation, Continuation]:
        assert self.before_repeat is None, "answers and repetitions stand behind the same tokens where one pass reads both"
        answers, repeats = (cut(rows, SHARED_TOKENS) for rows in (self.batch.answers, self.batch.repeats))
        pieces = [self.target.text_piece([self.before] * len(answers)), self.soft]
        both = self.target.texts_states(pieces, [(self.after, answers), (self.after_repeat, repeats)])
        answered, repeated = (
            Continuation(target=self.target, hidden_BAD=hidden_BAD, ids_BA=ids_BA, lengths=list(map(len, rows)))
            for (hidden_BAD, ids_BA, _), rows in zip(both, (answers, repeats), strict=True)
        )
        return answered, repeated

    @cached_property
    def teacher(self) -> Continuation:
        """The answers (first SHARED_TOKENS of each) after the question as text. No gradient."""
        with torch.no_grad():
            return self.read(self.behind_text(self.question), cut(self.batch.answers, SHARED_TOKENS))


def cut(rows: Sequence[Sequence[int]], length: int) -> list[Sequence[int]]:
    """The first `length` tokens of each row."""
    return [row[:length] for row in rows]
