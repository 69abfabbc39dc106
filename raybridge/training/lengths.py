"""How long the texts of a benchmark are before a target: with the models' configs all that its memory is predicted from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import mean, pstdev
from typing import cast

from raybridge.data import SPLITS, Evaluator
from raybridge.data.texts import Mixture
from raybridge.evaluation.benchmarks import every_problem, exemplars_of, some_problems
from raybridge.losses.bridge import SHARED_TOKENS, cut
from raybridge.models.frozen import FrozenLM
from raybridge.models.identity import model_identity
from raybridge.models.prompts import REPEAT_CUE, Frame, frame
from raybridge.models.shared_prefix import cues_apart

SAMPLE = 512  # problems whose texts are measured
LONG = 64  # of the longest questions


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a benchmark's texts before a target.

    frames: around the question's place, where it is to be answered and where it is to be repeated. answer, repetition: of a
    problem, as far as losses read them; spread: the standard deviation of both together. question: the longest of all
    splits. exemplars: that all text prompts share. new: the most that an answer is decoded to. behind: in the first frame
    behind the question's place. begun: in both frames before the first token that differs, the question's place apart. text:
    of a further text of the mixture as a repetition.
    """

    frames: tuple[int, int]
    answer: float
    repetition: float
    spread: float
    question: int
    exemplars: int
    new: int
    behind: int = 0
    begun: int = 0
    text: float = 0.0


@cache
def lengths_of(evaluator: Evaluator, target: str, folder: str, mixture: Mixture | None = None) -> Lengths:
    """Of a benchmark before a target, measured on a sample of train and of further texts. folder: where data are."""
    lm = cast(FrozenLM, model_identity(target))  # a prompt is made of its tokenizer alone
    problems = some_problems(evaluator, "train", min(SAMPLE, len(every_problem(evaluator, "train"))))
    around, repeat = frame(lm, evaluator), frame(lm, evaluator, after=REPEAT_CUE)
    answers = [len(row) for row in cut(around.answers([problem.rationale for problem in problems]), SHARED_TOKENS)]
    questions = [problem.question for problem in problems]
    repetitions = [len(row) for row in cut(repeat.answers(questions), SHARED_TOKENS)]
    return Lengths(
        frames=(len(around.before) + len(around.after), len(repeat.before) + len(repeat.after)),
        answer=mean(answers),
        repetition=mean(repetitions),
        spread=pstdev([sum(pair) for pair in zip(answers, repetitions, strict=True)]),
        question=max(map(len, around.questions(_longest(evaluator)))),
        exemplars=len(frame(lm, evaluator, exemplars=exemplars_of(evaluator)).before) - len(around.before),
        new=evaluator.max_new_tokens,
        behind=len(around.after),
        begun=len(around.before) + len(cues_apart([(around.after, ()), (repeat.after, ())])[0]),
        text=_text_length(evaluator, mixture, repeat) if mixture else 0.0,
    )


def _longest(evaluator: Evaluator) -> list[str]:
    """The questions of all splits among which the one of most tokens should be: those of most characters."""
    asked = {problem.question for split in SPLITS for problem in every_problem(evaluator, split)}
    return sorted(asked, key=len)[-LONG:]


def _text_length(evaluator: Evaluator, mixture: Mixture, repeat: Frame) -> float:
    """Tokens of a further text, about: of each kind a sample, by its share."""
    pools, shares = mixture.pools(evaluator), [part.share for part in mixture.parts]
    rows = [cut(repeat.answers(pool.texts[:: -(-len(pool.texts) // SAMPLE)]), SHARED_TOKENS) for pool in pools]
    means = [mean(map(len, some)) for some in rows]
    return sum(share * one for share, one in zip(shares, means, strict=True)) / sum(shares)
