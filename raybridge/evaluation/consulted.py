"""What the models of an evaluation say of a batch's questions, for arms that make texts of it.

Everything is asked in the question's place and without exemplars, so that an arm puts the same text before its model whichever
prompt it stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from raybridge.arms.arm import Consulted
from raybridge.data import Evaluator, first_line
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request
from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.prompts import Frame, frame

CUE = "\nShort version:"  # what asks a model without a chat template
LONGER = 2  # tokens that the source may write for each of the target's: tokenizers differ


@dataclass(frozen=True, kw_only=True)
class Consultation(Consulted):
    """The models of a process, asked about a request's questions."""

    request: Request
    models: Models

    @property
    def ids(self) -> Sequence[str]:
        """Of the problems."""
        return self.request.setting.ids

    @property
    def soft_tokens(self) -> int:
        """K."""
        return self.request.setting.soft_tokens

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each question."""
        return [len(row) for row in self._rows]

    @torch.no_grad()
    def surprise(self) -> Sequence[Sequence[float]]:
        """Nats of each token behind what stands before the question and the tokens before it."""
        lm, rows = self._target, self._rows
        nll_BA = lm.answer_nll([lm.text_piece([self._around.before] * len(rows))], rows)
        return [nats[: len(row)] for nats, row in zip(nll_BA.tolist(), rows, strict=True)]

    def kept(self, places: Sequence[Sequence[int]]) -> Sequence[str]:
        """The tokens at these places, as the target's tokenizer writes them."""
        return [self._target.text([row[i] for i in at]).strip() for row, at in zip(self._rows, places, strict=True)]

    def rewritten(self, instruction: str) -> Sequence[str]:
        """What the source writes, greedily; asked once for each question, instruction and K."""
        setting = self.request.setting
        keys = [
            (setting.source, setting.target, setting.evaluator, self.soft_tokens, instruction, text) for text in self._asked
        ]
        return self.models.remembered(keys, lambda rows: self._written(instruction, [self._asked[row] for row in rows]))

    def _written(self, instruction: str, questions: Sequence[str]) -> list[str]:
        source, setting = self.models.load(self.request.setting.source), self.request.setting
        around = frame(source, cast(Evaluator, Asking(instruction, setting.evaluator.before)))
        completions = greedy(
            source,
            [source.text_piece([row[len(around.before) :] for row in around.prompts(questions)])],
            max_new_tokens=LONGER * self.soft_tokens,
            shared=around.before,
        )
        lines = [first_line(completion.text) or "" for completion in completions]
        return [self._target.text(row[: self.soft_tokens]).strip() for row in self._around.questions(lines)]

    @property
    def _asked(self) -> list[str]:
        return [problem.question for problem in self.request.problems]

    @property
    def _target(self) -> FrozenLM:
        return self.models.load(self.request.setting.target)

    @property
    def _around(self) -> Frame:
        return frame(self._target, self.request.setting.evaluator)

    @property
    def _rows(self) -> list[list[int]]:
        return self._around.questions(self._asked)


@dataclass(frozen=True)
class Asking:
    """An instruction that stands around a question as a benchmark's own does: all that a frame reads of an evaluator."""

    instruction: str
    before: str
    after: ClassVar[str] = CUE
