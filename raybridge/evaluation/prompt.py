"""Arms and controls: what each one puts to which model.

Soft tokens stand in the question's place. The controls answer the same problems with soft tokens that know less:
`shuffled` with those of another problem of like length, drawn by the trial's seed, `mean` with the mean of the other problems
of the batch, `random` with noise at the target's embedding RMS, `zero` with none of it. `token_budget` reads the first K
tokens of the question as text.

Shapes: B batch, K soft tokens, D target width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from raybridge.analysis.measures import QUANTISED_ARMS
from raybridge.data import Evaluator, Problem
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request
from raybridge.models.lm import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.models.prompts import Frame, frame
from raybridge.translators.options import OntoText, OntoTextModule
from raybridge.translators.wire import FORMATS, WireFormat, through_wire

READS_TEXT = frozenset(["source", "target", "token_budget", "no_context", "cascade", "source_answer_as_text"])
OF_THE_BATCH = frozenset(["shuffled", "mean"])  # whose rows depend on the other problems
READS_QUESTION = frozenset(["source", "target", "bridged_with_text"])
NEIGHBOURS = 8  # problems of like length among which soft tokens are shuffled
CASCADE = "{question}\n\nA proposed answer: {answer}"  # what `cascade` puts in the question's place


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A batch as one arm puts it to a model: the tokens that all rows share, and the pieces that differ."""

    lm: FrozenLM
    shared: tuple[int, ...]
    place: tuple[Piece, ...]  # what stands in the question's place
    around: Frame
    texts: tuple[str, ...]  # what stands there as text
    prompt_rows: list[list[int]]  # token ids of each row's text, for hashes and lengths
    soft_tokens: int

    def pieces(self, after: Sequence[int]) -> list[Piece]:
        """All that follows the shared tokens."""
        return [*self.place, self.lm.text_piece([after] * len(self.prompt_rows))]

    def prompt_bytes(self, row: int) -> int:
        """UTF-8 bytes of a row's prompt, soft tokens not counted."""
        between = f" {self.texts[row]}" if self.texts[row] else ""
        return len(f"{self.around.before_text}{between}{self.around.after_text}".encode())


def ask(
    request: Request,
    models: Models,
    arm: str,
    soft_BKD: Tensor | None,
    *,
    shots: bool,
    weights: Mapping[str, Tensor] | None = None,
) -> Asked:
    """Build one arm's prompts. Exemplars are text: only arms that read text get them, and never when NLL is measured.

    weights: the translator's, needed where it adds its soft tokens onto text.
    """
    lm = models.load(request.source if arm == "source" else request.target)
    exemplars = exemplars_of(request.evaluator) if shots and arm in READS_TEXT else ()
    around = frame(lm, request.evaluator, exemplars=exemplars).anchored(request.hardening.anchor)
    texts = _texts(request, arm)
    rows = [around.question(text) if text else [] for text in texts]
    if arm == "token_budget":
        rows = [row[: request.soft_tokens] for row in rows]
        texts = [lm.text(row).strip() for row in rows]
    soft = _soft(request, lm, arm, soft_BKD)
    return Asked(
        lm=lm,
        shared=around.before,
        place=tuple(_place(request, models, lm, soft, rows, weights)),
        around=around,
        texts=tuple(texts),
        prompt_rows=[[*around.before, *row, *around.after] for row in rows],
        soft_tokens=0 if soft is None else soft.shape[1],
    )


def _place(
    request: Request,
    models: Models,
    lm: FrozenLM,
    soft: Tensor | None,
    rows: list[list[int]],
    weights: Mapping[str, Tensor] | None,
) -> Iterator[Piece]:
    """What stands in the question's place: soft tokens, then text; where the translator adds them onto text, as trained."""
    if soft is not None and any(rows) and isinstance(request.translator, OntoText):
        assert weights is not None, "soft tokens are added onto text by the translator, whose weights are missing"
        module = models.module(request, weights)
        assert isinstance(module, OntoTextModule)
        with torch.no_grad():
            yield module.onto(lm.text_piece(rows), soft)
        return
    if soft is not None:
        yield lm.soft_piece(soft)
        if request.hardening.bos:
            if lm.tokenizer.bos_token_id is None:
                raise ValueError(f"model {lm.name!r} has no BOS to put behind the soft tokens")
            yield lm.text_piece([[lm.tokenizer.bos_token_id]] * len(rows))
    if any(rows):
        yield lm.text_piece(rows)


def wire_format(arm: str) -> WireFormat:
    """The format in which an arm's soft tokens travel: fp16 unless its name says another."""
    return FORMATS[arm.removeprefix("bridged_")] if arm in QUANTISED_ARMS else FORMATS["fp16"]


@cache
def exemplars_of(evaluator: Evaluator) -> tuple[Problem, ...]:
    """The few-shot exemplars, read once."""
    return tuple(evaluator.exemplars())


def _texts(request: Request, arm: str) -> list[str]:
    """What stands in the question's place as text."""
    questions = [problem.question for problem in request.problems]
    if arm in READS_QUESTION or arm == "token_budget":
        return questions
    if arm not in ("cascade", "source_answer_as_text"):
        return [""] * len(questions)
    answers = [answer.strip() for answer in request.source_answers]
    assert len(answers) == len(questions), f"{arm} needs the source's answers"
    if arm == "source_answer_as_text":
        return answers
    return [CASCADE.format(question=q, answer=answer or "(none)") for q, answer in zip(questions, answers, strict=True)]


def _soft(request: Request, lm: FrozenLM, arm: str, soft_BKD: Tensor | None) -> Tensor | None:
    """An arm's soft tokens (B, K, D); None for arms that have none."""
    shape = (len(request.problems), request.soft_tokens, lm.width)
    if arm in READS_TEXT:
        return None
    if arm == "zero":
        return torch.zeros(shape, device=lm.device)
    if arm == "random":
        return torch.stack([noise(problem.id, shape[1:]) for problem in request.problems]).to(lm.device) * lm.embedding_rms
    assert soft_BKD is not None, f"{arm} needs a translator's soft tokens"
    if arm == "shuffled":
        return derange(soft_BKD, request.seed)
    if arm == "mean":
        return (soft_BKD.sum(0, keepdim=True) - soft_BKD) / (len(soft_BKD) - 1)
    return through_wire(soft_BKD, wire_format(arm)) if arm in QUANTISED_ARMS else soft_BKD


def derange(soft_BKD: Tensor, seed: int) -> Tensor:
    """Every problem gets the soft tokens of a neighbour of like length, by seed; batches are sorted by length."""
    return soft_BKD[partners(len(soft_BKD), seed)]


def partners(count: int, seed: int) -> list[int]:
    """For each of a batch's problems, in their order, the one whose soft tokens it is shuffled with: a derangement.

    Within windows of neighbours, a random cyclic permutation (Sattolo 1986): no problem keeps its own soft tokens.
    """
    assert count > 1, "the shuffled control needs another problem"
    sizes = [min(NEIGHBOURS, count - start) for start in range(0, count, NEIGHBOURS)]
    if sizes[-1] == 1:
        sizes[-2:] = [NEIGHBOURS - 1, 2]
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for size in sizes:
        window = list(range(len(order), len(order) + size))
        for last in range(size - 1, 0, -1):
            other = int(torch.randint(last, (1,), generator=generator))
            window[last], window[other] = window[other], window[last]
        order += window
    return order


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, seeded by a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
