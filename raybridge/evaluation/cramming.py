"""Cramming: K free vectors a problem, optimised until the frozen target can repeat the question from them, and answer it.

Kuratov et al. 2025, arXiv:2502.13063, with K vectors at the RMS of embeddings, as soft tokens are. They start as the question's
own embeddings, averaged over K windows, and take a fixed number of Adam's steps; each problem's loss is its own, so that no row
depends on the problems beside it but by rounding.

Shapes: B problems, T tokens of a question, K vectors, D target width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raybridge.arms import Arm
from raybridge.arms.arm import Crams
from raybridge.data import Problem
from raybridge.evaluation.benchmarks import exemplars_of
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Request, Setting
from raybridge.models.capacity import halved
from raybridge.models.frozen import FrozenLM
from raybridge.models.lent import Lent
from raybridge.models.prefill import lend
from raybridge.models.prompts import REPEAT_CUE, Frame, frame
from raybridge.translators.anchor import windows
from raybridge.translators.parts import at_rms
from raybridge.translators.soft_tokens import SoftTokens

STEPS = 200
RATE = 0.03  # a step of Adam, for vectors that start at unit RMS
BETAS = (0.9, 0.9)  # as in the paper
TOGETHER = 32  # problems that are optimised together, or fewer where memory ends: few take as long a step on a GPU
AT_MOST = 400  # problems: each costs as much as some hundreds do in training


def check_few(arms: Sequence[Arm], setting: Setting) -> None:
    """Refuse more problems than arms that are optimised problem by problem can be asked."""
    crammed, count = [arm.name for arm in arms if arm.crams], len(setting.problems)
    if crammed and count > AT_MOST:
        raise ValueError(
            f"{' and '.join(crammed)}: {STEPS} optimizer steps for each problem, so at most {AT_MOST} problems and not "
            f"{count:,}; give --problems {AT_MOST}, or leave them out of --arms"
        )


def crammed_for(request: Request, arm: Arm, models: Models) -> SoftTokens:
    """The vectors of a request's problems, and of the whole blocks that they stand in where the arm looks at those."""
    setting, target = request.setting, models.load(request.setting.target)
    problems = [one for block in request.blocks for one in block] if arm.of_block else list(request.problems)
    about = (setting.target, setting.evaluator, setting.soft_tokens, arm.crams)

    def make(rows: Sequence[int]) -> list[Tensor]:
        ordered = sorted(rows, key=lambda row: len(problems[row].question))
        parts = [ordered[start : start + TOGETHER] for start in range(0, len(ordered), TOGETHER)]
        written = {row: own for part in parts for row, own in zip(part, halved(part, cram), strict=True)}
        return [written[row] for row in rows]

    def cram(part: Sequence[int]) -> list[Tensor]:
        return list(crammed(target, setting, [problems[row] for row in part], arm.crams).cpu())

    keys = [(*about, problem.question, problem.rationale if "answer" in arm.crams else "") for problem in problems]
    soft_BKD = torch.stack(models.remembered(keys, make)).to(target.device)
    return SoftTokens(target=target, names=tuple(one.id for one in problems), size=setting.soft_tokens, written_BKD=soft_BKD)


@torch.enable_grad()
def crammed(target: FrozenLM, setting: Setting, problems: Sequence[Problem], crams: Sequence[Crams]) -> Tensor:
    """Vectors (B, K, D) from which the target repeats the questions; with "answer" it writes the worked answers too."""
    target.check_target()
    around, repeat = frame(target, setting.evaluator), frame(target, setting.evaluator, after=REPEAT_CUE)
    questions = [problem.question for problem in problems]
    tasks: list[tuple[Frame, list[list[int]], Lent | None]] = []
    if "question" in crams:
        tasks.append((repeat, repeat.answers(questions), None))
    if "answer" in crams:  # behind the exemplars that the arm is judged behind
        asked = frame(target, setting.evaluator, exemplars=exemplars_of(setting.evaluator))
        rows = asked.answers([problem.rationale for problem in problems])
        longest = setting.soft_tokens + len(asked.after) + max(map(len, rows))
        tasks.append((asked, rows, lend(target, asked.before, longest=longest) if asked.before != around.before else None))
    vectors_BKD = start(target, around.questions(questions), setting.soft_tokens).requires_grad_()
    optimizer = torch.optim.Adam([vectors_BKD], lr=RATE, betas=BETAS)
    for _ in range(STEPS):
        soft_BKD = at_rms(vectors_BKD, target.embedding_rms)
        loss_B = torch.stack([nll(target, around, soft_BKD, rows, lent) for around, rows, lent in tasks]).sum(0)
        (vectors_BKD.grad,) = torch.autograd.grad(loss_B.sum(), vectors_BKD)
        optimizer.step()
    return at_rms(vectors_BKD.detach(), target.embedding_rms)


def start(target: FrozenLM, questions: Sequence[Sequence[int]], soft_tokens: int) -> Tensor:
    """Embeddings (B, K, D) of the questions averaged over K windows, at unit RMS; where one is empty, over all tokens."""
    question = target.text_piece(questions)
    embeds_BTD, mask_BT = question.embeds_BTD.float(), question.mask_BT
    weights_BKT = windows(mask_BT, soft_tokens)
    all_B1T = windows(mask_BT, 1)
    weights_BKT = torch.where(weights_BKT.any(-1, keepdim=True), weights_BKT, all_B1T)
    return at_rms(weights_BKT @ embeds_BTD, 1.0).detach()


def nll(target: FrozenLM, around: Frame, soft_BKD: Tensor, rows: Sequence[Sequence[int]], lent: Lent | None = None) -> Tensor:
    """NLL a token (B) of each row behind the vectors in their place. lent: what stands before them, if it was read before."""
    B = len(soft_BKD)
    before = [] if lent else [target.text_piece([around.before] * B)]
    pieces = [*before, target.soft_piece(soft_BKD), target.text_piece([around.after] * B)]
    nll_BA = target.answer_nll(pieces, rows, lent=lent)
    return nll_BA.sum(1) / torch.tensor([len(row) for row in rows], device=target.device)
