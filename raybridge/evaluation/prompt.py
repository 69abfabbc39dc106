"""A batch as one arm puts it to a model: what stands in the question's place, and the frame around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from raybridge.arms import Arm
from raybridge.arms.arm import Texts
from raybridge.data import Evaluator, Problem
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request
from raybridge.models.lm import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.models.prompts import Frame, frame
from raybridge.translators.soft_tokens import SoftTokens


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The prompts of a batch: the tokens that all rows share, and the pieces that differ.

    place: what stands in the question's place. texts: what stands there as text. rows: token ids of each row's whole text,
    for hashes and lengths. soft: what of the translator's stands there; None for nothing.
    """

    lm: FrozenLM
    shared: tuple[int, ...]
    place: tuple[Piece, ...]
    around: Frame
    texts: tuple[str, ...]
    rows: list[list[int]]
    soft: SoftTokens | None

    def pieces(self, after: Sequence[int]) -> list[Piece]:
        """All that follows the shared tokens."""
        return [*self.place, self.lm.text_piece([after] * len(self.rows))]

    @property
    def soft_tokens(self) -> int:
        """How many stand in it."""
        return 0 if self.soft is None else self.soft.size

    def bytes(self, row: int) -> int:
        """UTF-8 bytes of a row's prompt, soft tokens not counted."""
        between = f" {self.texts[row]}" if self.texts[row] else ""
        return len(f"{self.around.before_text}{between}{self.around.after_text}".encode())


def prompt_of(
    request: Request,
    models: Models,
    arm: Arm,
    written: SoftTokens | None,
    *,
    shots: bool,
    weights: Mapping[str, Tensor] | None = None,
) -> Prompt:
    """One arm's prompts. Exemplars are text: only arms that read text get them, and never when NLL is measured.

    written: the translator's soft tokens; None where the arms of the request need none. weights: the translator's.
    """
    setting = request.setting
    lm = models.load(setting.source if arm.answered_by == "source" else setting.target)
    exemplars = exemplars_of(setting.evaluator) if shots and arm.reads_text else ()
    around = frame(lm, setting.evaluator, exemplars=exemplars).anchored(setting.hardening.anchor)
    given = Texts(questions=[problem.question for problem in request.problems], answers=request.answers)
    texts = list(arm.texts(given))
    rows = [around.question(text) if text else [] for text in texts]
    if arm.cut_to_k:
        rows = [row[: setting.soft_tokens] for row in rows]
        texts = [lm.text(row).strip() for row in rows]
    blank = SoftTokens(target=lm, names=tuple(setting.ids), size=setting.soft_tokens)
    soft = None if arm.reads_text else arm.soft(blank if written is None else written, seed=setting.seed)
    return Prompt(
        lm=lm,
        shared=around.before,
        place=tuple(_place(request, models, lm, soft, rows, weights)),
        around=around,
        texts=tuple(texts),
        rows=[[*around.before, *row, *around.after] for row in rows],
        soft=soft,
    )


def _place(
    request: Request,
    models: Models,
    lm: FrozenLM,
    soft: SoftTokens | None,
    rows: list[list[int]],
    weights: Mapping[str, Tensor] | None,
) -> Iterator[Piece]:
    """What stands in the question's place: soft tokens and text as the translator places them, as trained."""
    text = lm.text_piece(rows) if any(rows) else None
    if soft is None:
        yield from [text] if text is not None else []
        return
    if text is not None and weights is not None:
        with torch.no_grad():
            pieces = models.module(request.setting, weights).place(lm, text, soft.values_BKD)
    else:
        pieces = [soft.piece(), *([text] if text is not None else [])]
    apart = text is None or len(pieces) > 1  # a translator that adds onto the text leaves no place between them
    if request.setting.hardening.bos and apart:
        if lm.tokenizer.bos_token_id is None:
            raise ValueError(f"model {lm.name!r} has no BOS to put behind the soft tokens")
        pieces.insert(1, lm.text_piece([[lm.tokenizer.bos_token_id]] * len(rows)))
    yield from pieces


@cache
def exemplars_of(evaluator: Evaluator) -> tuple[Problem, ...]:
    """The few-shot exemplars, read once."""
    return tuple(evaluator.exemplars())
