"""Evaluation as it is written without raybridge: three arms one after another, the whole prompt as text in every row.

`source` and `target` read the question as text, `bridged` what the translator wrote in its place. The prompts are raybridge's,
so that both answer the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.plain_generate import generated
from bench.plain_training import states_of
from raybridge.data import Evaluator, Problem
from raybridge.models.frozen import FrozenLM
from raybridge.models.prompts import frame
from raybridge.translators import Translator, TranslatorModule

ARMS = ("source", "target", "bridged")
BATCH = 36


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Two models, a translator between them, and the benchmark with its exemplars."""

    source: FrozenLM
    target: FrozenLM
    translator: Translator
    module: TranslatorModule
    evaluator: Evaluator

    def answers(self, problems: Sequence[Problem], *, batch: int = BATCH) -> Mapping[str, list[list[int]]]:
        """By arm, the token ids of each problem's answer."""
        found: dict[str, list[list[int]]] = {arm: [] for arm in ARMS}
        for arm in ARMS:
            lm = self.source if arm == "source" else self.target
            around = frame(lm, self.evaluator, exemplars=self.evaluator.exemplars())
            for start in range(0, len(problems), batch):
                questions = [problem.question for problem in problems[start : start + batch]]
                if arm == "bridged":
                    after = [row.after for row in around.behind([""] * len(questions))]
                    rows = [[around.before, *one] for one in zip(self.written(questions), after, strict=True)]
                else:
                    rows = [[ids] for ids in around.prompts(questions)]
                found[arm] += generated(lm, rows, length=self.evaluator.max_new_tokens)
        return found

    def texts(self, arm: str, answers: Sequence[Sequence[int]]) -> list[str]:
        """Answers up to the first stop string."""
        lm = self.source if arm == "source" else self.target
        texts = [lm.text(row) for row in answers]
        return [t[: min((at for at in map(t.find, self.evaluator.stop) if at >= 0), default=len(t))] for t in texts]

    @torch.no_grad()
    def written(self, questions: Sequence[str]) -> Tensor:
        """Soft tokens (B, K, D)."""
        read = frame(self.source, self.evaluator)
        with torch.autocast(self.target.device.type, dtype=torch.bfloat16, enabled=self.target.device.type == "cuda"):
            return self.module(*states_of(self.source, read.before, read.questions(questions), self.translator.layers))
