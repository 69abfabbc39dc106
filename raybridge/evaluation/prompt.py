"""A batch as one arm puts it to a model: what stands in the question's place, and the frame around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from raybridge.arms import Arm
from raybridge.arms.arm import Texts
from raybridge.data import Problem
from raybridge.evaluation.benchmarks import exemplars_of
from raybridge.evaluation.consulted import Consultation
from raybridge.evaluation.cramming import crammed_for
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request
from raybridge.models.lm import FrozenLM
from raybridge.models.parts import that_fit
from raybridge.models.pieces import Piece, join
from raybridge.models.prompts import Frame, frame
from raybridge.translators.soft_tokens import SoftTokens

AT_ONCE = 2**18  # characters of questions, padded: some 65,000 tokens, of which five layers of width 4,096 take 5 GB


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The prompts of a batch: the tokens that all rows share, and the pieces that differ.

    shots: exemplars before the question's place. texts: what stands in it as text. in_place: of each row how many positions it
    takes, be they text, soft tokens or both. rows: token ids of each row's whole text, for hashes and lengths. soft: what of
    the translator's stands there; None for nothing.
    """

    lm: FrozenLM
    shared: tuple[int, ...]
    pieces: tuple[Piece, ...]
    around: Frame
    shots: int
    texts: tuple[str, ...]
    in_place: list[int]
    rows: list[list[int]]
    soft: SoftTokens | None

    @property
    def soft_tokens(self) -> int:
        """How many stand in it."""
        return 0 if self.soft is None else self.soft.size

    @cached_property
    def lengths(self) -> list[int]:
        """Positions of each row's whole prompt."""
        return [len(self.shared) + length for length in join(self.pieces).lengths]

    def bytes(self, row: int) -> int:
        """UTF-8 bytes of a row's prompt, soft tokens not counted."""
        return len(self.around.whole(self.texts[row]).encode())


def prompt_of(
    request: Request,
    models: Models,
    arm: Arm,
    written: SoftTokens | None,
    *,
    shots: bool,
    cue: str | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Prompt:
    """One arm's prompts. Exemplars are part of the frame: they stand as text before the question's place in every arm.

    shots: whether they do; a cue that asks for something else than an answer has none. Text is tokenized whole. written: what
    `written_for` gives for the request; None where its arms need none. cue: another than the benchmark's own. weights: the
    translator's.
    """
    setting = request.setting
    lm = models.load(setting.source if arm.answered_by == "source" else setting.target)
    if arm.trained and weights is not None:
        lm = models.module(setting, weights).read_by(lm)
    exemplars = exemplars_of(setting.evaluator) if shots else ()
    around = frame(lm, setting.evaluator, exemplars=exemplars, after=cue).anchored(setting.hardening.anchor)
    questions = [problem.question for problem in request.problems]
    given = Texts(questions=questions, answers=request.answers, models=Consultation(request=request, models=models))
    texts = [text.strip() for text in arm.texts(given)]
    if arm.cut_to_k:
        texts = [lm.text(row[: setting.soft_tokens]).strip() for row in around.questions(texts)]
    blank = SoftTokens(target=lm, names=tuple(setting.ids), size=setting.soft_tokens)
    if arm.crams:
        written = crammed_for(request, arm, models)
    soft = None if arm.reads_text else taken(request, arm, blank if written is None else written)
    behind = around.behind(texts)
    rows = [[*around.before, *row.question, *row.after] for row in behind]
    if soft is None:
        shared, in_place = common_beginning(rows), [len(row.question) for row in behind]
        pieces = [lm.text_piece([row[len(shared) :] for row in rows])]
    else:
        text = lm.text_piece([row.question for row in behind]) if any(texts) else None
        place = _place(request, models, lm, soft, text, weights)
        shared, in_place = around.before, join(place).lengths
        pieces = [*place, lm.text_piece([row.after for row in behind])]
    return Prompt(
        lm=lm,
        shared=shared,
        pieces=tuple(pieces),
        around=around,
        shots=len(exemplars),
        texts=tuple(texts),
        in_place=in_place,
        rows=rows,
        soft=soft,
    )


def written_for(request: Request, models: Models, weights: Mapping[str, Tensor] | None) -> SoftTokens | None:
    """What the translator writes for a request, and for whole blocks where an arm looks at the others of one.

    It is written for some problems at a time: the source's states of long questions take more than their soft tokens do.
    """
    if not request.trained:
        return None
    whole = any(arm.of_block for arm in request.arms)
    problems = [problem for block in request.blocks for problem in block] if whole else request.problems
    settings = [replace(request.setting, problems=tuple(problems[row] for row in part)) for part in parts_of(problems)]
    written = [models.written(replace(request, setting=setting), weights) for setting in settings]
    return _together([soft for soft in written if soft is not None])


def parts_of(problems: Sequence[Problem]) -> list[list[int]]:
    """Rows of problems in parts of like length whose questions are not too long together."""
    return that_fit([len(problem.question) for problem in problems], free=AT_ONCE)


def taken(request: Request, arm: Arm, written: SoftTokens) -> SoftTokens | None:
    """What an arm takes for the request's problems of what was written for them, or for their blocks."""
    seed = request.setting.seed
    if not arm.of_block:
        return arm.soft(_of(written, request.problems), seed=seed)
    taken = [arm.soft(_of(written, block), seed=seed) for block in request.blocks]
    return _of(_together([soft for soft in taken if soft is not None]), request.problems)


def _of(soft: SoftTokens, problems: Sequence[Problem]) -> SoftTokens:
    """Those of some of the problems, in their order."""
    place = {name: row for row, name in enumerate(soft.names)}
    names = tuple(problem.id for problem in problems)
    values = None if soft.written_BKD is None else soft.written_BKD[[place[name] for name in names]]
    return replace(soft, names=names, written_BKD=values)


def _together(parts: Sequence[SoftTokens]) -> SoftTokens:
    """Those of several blocks."""
    names = tuple(name for part in parts for name in part.names)
    return replace(parts[0], names=names, written_BKD=torch.cat([part.values for part in parts]))


def _place(
    request: Request,
    models: Models,
    lm: FrozenLM,
    soft: SoftTokens,
    text: Piece | None,
    weights: Mapping[str, Tensor] | None,
) -> list[Piece]:
    """What stands in the question's place: soft tokens and text as the translator places them, as trained."""
    if text is not None and weights is not None:
        with torch.no_grad():
            pieces = models.module(request.setting, weights).place(lm, text, soft.values)
    else:
        pieces = [soft.piece(), *([text] if text is not None else [])]
    apart = text is None or len(pieces) > 1  # a translator that adds onto the text leaves no place between them
    if request.setting.hardening.bos and apart:
        if lm.tokenizer.bos_token_id is None:
            raise ValueError(f"model {lm.name!r} has no BOS to put behind the soft tokens")
        pieces.insert(1, lm.text_piece([[lm.tokenizer.bos_token_id]] * len(soft)))
    return pieces


def common_beginning(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all rows begin with, the last one of the shortest left out: every row keeps one of its own."""
    shortest = min(len(row) for row in rows) - 1
    first = rows[0]
    count = next((i for i in range(shortest) if any(row[i] != first[i] for row in rows)), shortest)
    return tuple(first[:count])
