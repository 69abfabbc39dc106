"""A trained translator between its two frozen models: asked questions, it gives soft tokens, answers, or prompts.

Shapes: B questions, K soft tokens, D target width, T positions of a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from raybridge import arms
from raybridge.arms import Arm
from raybridge.data import Evaluator, Problem
from raybridge.evaluation.answering import complete
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import Prompt, prompt_of, taken, written_for
from raybridge.evaluation.prompt import parts_of as parts_that_fit
from raybridge.evaluation.setting import BATCH, Request, Setting
from raybridge.interface.kept import Kept
from raybridge.interface.saved import push, save_pretrained
from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece, join
from raybridge.translators.interlingua import turned_to
from raybridge.translators.soft_tokens import SoftTokens

NO_GOLD = "nobody asked for one"  # a question from outside has no gold answer, and nothing here grades or scores


class TrainedBridge:
    """A translator, its frozen source and its frozen target.

    It answers as its trial was judged: in the frame of its benchmark, by the arm that it was trained for, greedily.
    kept: what it is made of. models: where its models are loaded, at the first question. evaluator: another benchmark, whose
    frame stands around the question; None for the trial's own. target: another target of an interlingua.
    """

    def __init__(self, kept: Kept, models: Models, *, evaluator: Evaluator | None = None, target: str | None = None) -> None:
        self.kept, self.models = kept, models
        trial, at = kept.trial, "" if target in (None, kept.trial.target) else str(target)
        translator, self._weights = trial.translator, dict(kept.weights)
        if at:
            translator, self._weights = turned_to(at, translator, self._weights, own=trial.target)
        self.arm: Arm = arms.find(translator.arm)
        self._setting = Setting(
            source=trial.source,
            target=at or trial.target,
            evaluator=evaluator or trial.evaluator,
            split="test",
            problems=(),
            translator=translator,
            soft_tokens=translator.soft_tokens,
            seed=trial.seed,
            trial=trial.fingerprint,
            at=at,
            contents=trial.contents,
        )

    def __repr__(self) -> str:
        return f"<raybridge {self.kept.name} at step {self.kept.step}: {self.source} to {self.target}, K={self.size}>"

    @property
    def source(self) -> str:
        """The model that reads."""
        return self._setting.source

    @property
    def target(self) -> str:
        """The model that answers."""
        return self._setting.target

    @property
    def evaluator(self) -> Evaluator:
        """The benchmark whose frame stands around a question."""
        return self._setting.evaluator

    @property
    def size(self) -> int:
        """K, the soft tokens of a question."""
        return self._setting.soft_tokens

    @property
    def end_ids(self) -> list[int]:
        """Tokens of the target that end an answer."""
        return sorted(self.models.load(self.target).end_ids)

    @property
    def reader(self) -> FrozenLM:
        """The target as it reads: with what the translator changes inside it, where it does."""
        return self.models.module(self._setting, self._weights).read_by(self.models.load(self.target))

    def soft_tokens(self, questions: Sequence[str]) -> Tensor:
        """Soft tokens (B, K, D) in the target's embedding space, one set a question. ValueError for an empty question."""
        found = []
        for request in self._requests(questions):
            written = self._written(request)
            assert written is not None, f"{self.arm.name} needs no translator"
            soft = taken(request, self.arm, written)
            assert soft is not None, f"{self.arm.name} takes no soft tokens"
            found.append(soft.values)
        return torch.cat(found)

    def answer(self, questions: Sequence[str], *, shots: bool = True) -> list[str]:
        """The target's answers, in the order of the questions, as `raybridge.evaluate` would have them completed.

        shots: whether the benchmark's exemplars stand before the question as text, which needs the benchmark to be here.
        """
        answers = [""] * len(questions)
        for rows, request, prompt in self.prompts(questions, shots=shots):
            ((completions,), _) = complete(request, [prompt])
            for row, completion in zip(rows, completions, strict=True):
                answers[row] = completion.text
        return answers

    @torch.no_grad()
    def embedded(self, questions: Sequence[str], *, shots: bool = True) -> list[Tensor]:
        """Whole prompts as the target's embeddings (T, D), one a question: frame, soft tokens, frame.

        ValueError where the translator changes more of the target than what it reads first.
        """
        found: list[Tensor] = [torch.empty(0)] * len(questions)
        for rows, _, prompt in self.prompts(questions, shots=shots):
            if prompt.lm is not self.models.load(self.target) or any(piece.injected for piece in prompt.pieces):
                raise ValueError(
                    f"{self.kept.name}: its translator changes the target inside, which a prompt of embeddings cannot say; "
                    "only raybridge itself can answer with it"
                )
            whole = join([prompt.lm.text_piece([prompt.shared] * len(rows)), *prompt.pieces])
            for row, length, embeds_TD in zip(rows, whole.lengths, whole.embeds_BTD, strict=True):
                found[row] = embeds_TD[:length].clone()
        return found

    @torch.no_grad()
    def placed(self, questions: Sequence[str], rows: Sequence[Sequence[int]] | None) -> list[Piece]:
        """What stands in the questions' place before the `reader`. rows: their tokens, where they are shown beside it."""
        soft_BKD, lm = self.soft_tokens(questions), self.reader
        text = None if rows is None else lm.text_piece(rows)
        return self.models.module(self._setting, self._weights).place(lm, text, soft_BKD)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors, result.json and a model card into a folder. No model's weights are in it."""
        save_pretrained(self.kept, Path(folder))

    def push_to_hub(
        self, repository: str, *, private: bool | None = None, token: str | None = None, message: str = "Upload bridge"
    ) -> str:
        """Upload what `save_pretrained` writes to a repository of the hub, made if there is none; the URL of the commit."""
        with TemporaryDirectory() as folder:
            save_pretrained(self.kept, Path(folder))
            return push(Path(folder), repository, private=private, token=token, message=message)

    def prompts(self, questions: Sequence[str], *, shots: bool) -> Iterator[tuple[list[int], Request, Prompt]]:
        """(rows of the questions, the request of these, their prompt), in parts that fit in memory."""
        for number, request in enumerate(self._requests(questions)):
            written = self._written(request)
            for part in parts_that_fit(request.problems):
                rows, some = [number * BATCH + row for row in part], request.only(part)
                yield rows, some, prompt_of(some, self.models, self.arm, written, shots=shots, weights=self._weights)

    def _written(self, request: Request) -> SoftTokens | None:
        return written_for(request, self.models, self._weights)

    def _requests(self, questions: Sequence[str]) -> list[Request]:
        """Batches of the questions in their order."""
        if isinstance(questions, str):
            raise ValueError("give a list of questions, not one text: [question]")
        if not questions:
            raise ValueError("there are no questions")
        problems = [_asked(number, question) for number, question in enumerate(questions)]
        parts = [tuple(problems[start : start + BATCH]) for start in range(0, len(problems), BATCH)]
        return [Request(setting=replace(self._setting, problems=part), arms=(self.arm,), blocks=(part,)) for part in parts]


def _asked(number: int, question: str) -> Problem:
    """A question as a problem, named by what it asks: what is remembered of a question is remembered under its name."""
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question {number} must be text that is not empty, not {question!r}")
    name = hashlib.sha256(question.encode(errors="surrogatepass")).hexdigest()
    return Problem(id=f"asked/{name}", question=question, gold=NO_GOLD, rationale=NO_GOLD)
