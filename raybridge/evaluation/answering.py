"""What comes back from the arms: completions, readings, and the gold's likelihood. Plain torch, no Ray.

Arms that put like prompts to the same model are decoded together, so that controls cost little; how many rows that is at a time
is `models.decode`'s to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby
from typing import Any

import pandas as pd
from torch import Tensor

from raybridge.analysis.measures import summarised
from raybridge.arms import Arm, find
from raybridge.arms.joint import together
from raybridge.data import Evaluator, Problem, Split
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import Prompt, parts_of, prompt_of, written_for
from raybridge.evaluation.scoring import continuation_nll, readings
from raybridge.evaluation.setting import Request
from raybridge.losses.bridge import SHARED_TOKENS, cut
from raybridge.models.completion import Completion
from raybridge.models.decode import greedy, stack
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.prompts import REPEAT_CUE, prompt_hash, template_hash
from raybridge.translators.soft_tokens import SoftTokens
from raybridge.translators.wire import FORMATS


def answer(request: Request, models: Models, weights: Mapping[str, Tensor] | None = None) -> list[dict[str, Any]]:
    """Answer every problem with every arm: a row for each, with the completion, its readings, and the gold's NLL."""
    if any(arm.chooses for arm in request.arms):
        (arm,) = request.arms  # it asks both models and stands in no batch with another
        return chosen_rows(request, models, arm)
    written = written_for(request, models, weights)
    parts = [request.only(rows) for rows in parts_of(request.problems)]
    return [row for part in parts for row in _answered(part, models, written, weights)]


def _answered(
    request: Request, models: Models, written: SoftTokens | None, weights: Mapping[str, Tensor] | None
) -> list[dict[str, Any]]:
    """The rows of problems whose prompts exist together."""
    prompts = {arm: prompt_of(request, models, arm, written, shots=True, weights=weights) for arm in request.arms}
    rows = []
    for group in _alike(prompts):
        completions, seconds = complete(request, [prompts[arm] for arm in group])
        for arm, part in zip(group, completions, strict=True):
            rows += _rows(request, models, arm, prompts[arm], part, written, weights, seconds)
    return rows


def complete(request: Request, prompts: Sequence[Prompt]) -> tuple[list[list[Completion]], float]:
    """Completions of each of several arms that share a model and a prompt's beginning, and the seconds a row took."""
    started = time.perf_counter()
    first, setting = prompts[0], request.setting
    completions = greedy(
        first.lm,
        [stack([one.pieces for one in prompts])],
        max_new_tokens=setting.evaluator.max_new_tokens,
        stop=setting.evaluator.stop,
        shared=first.shared,
        hardening=setting.hardening,
        names=setting.ids * len(prompts),
    )
    seconds = (time.perf_counter() - started) / len(completions)
    size = len(request.problems)
    return [completions[start : start + size] for start in range(0, len(completions), size)], seconds


def _alike(prompts: Mapping[Arm, Prompt]) -> Iterator[list[Arm]]:
    """The arms in their order, cut where the model or the prompt's beginning changes."""
    for _, group in groupby(prompts, key=lambda arm: (id(prompts[arm].lm), prompts[arm].shared)):
        yield list(group)


def _rows(
    request: Request,
    models: Models,
    arm: Arm,
    prompt: Prompt,
    completions: Sequence[Completion],
    written: SoftTokens | None,
    weights: Mapping[str, Tensor] | None,
    seconds: float,
) -> list[dict[str, Any]]:
    """One arm's sample rows. The worked answer stands behind the prompt that was completed, exemplars and all.

    The question is repeated on another cue, of which the exemplars are no example: none stands before it. As in training, its
    first SHARED_TOKENS tokens are asked for: a long context is no translator's to repeat whole.
    """
    setting = request.setting
    asked = [problem.question for problem in request.problems]
    answers = prompt.around.answers([problem.rationale for problem in request.problems])
    nll, first_correct = continuation_nll(prompt, answers)
    repeat = prompt_of(request, models, arm, written, shots=False, cue=REPEAT_CUE, weights=weights)
    questions = cut(repeat.around.answers(asked), SHARED_TOKENS)
    reconstruction_nll, _ = continuation_nll(repeat, questions)
    template, as_text = template_hash(prompt.around), prompt.around.questions(asked)
    kv = cache(partial(_kv_bytes, prompt))  # of many lengths alike
    return [
        {
            "problem": problem.id,
            "arm": setting.label(arm),
            "prompt_hash": prompt_hash(prompt.rows[i]),
            "template_hash": template,
            "completion": completions[i].text,
            "generated_tokens": completions[i].tokens,
            "truncated": completions[i].truncated,
            "no_stop": not completions[i].ended,
            "first_token": completions[i].first,
            "first_token_correct": first_correct[i],
            "nll": nll[i],
            "nll_tokens": len(answers[i]),
            "reconstruction_nll": reconstruction_nll[i],
            "reconstruction_tokens": len(questions[i]),
            "shots": prompt.shots,
            "prompt_tokens": len(prompt.rows[i]),
            "question_tokens": len(as_text[i]),
            "soft_tokens": prompt.soft_tokens,
            "prompt_bytes": prompt.bytes(i),
            "question_bytes": len(problem.question.encode()),
            "answer_bytes": len(problem.rationale.encode()),
            **_wire_bytes(prompt.soft, arm),
            "kv_bytes": kv(prompt.lengths[i]),
            "question_kv_bytes": kv(prompt.in_place[i]),
            "seconds": seconds,
            **readings(setting.evaluator, problem, completions[i].text),
        }
        for i, problem in enumerate(request.problems)
    ]


def _wire_bytes(soft: SoftTokens | None, arm: Arm) -> dict[str, float | None]:
    """Bytes of a problem's soft tokens on the wire as they travelled, and in every format; None where there are none."""
    forms = {"wire_bytes": arm.wire} | {f"wire_bytes_{name}": name for name in FORMATS}
    return {column: None if soft is None else soft.bytes(form) for column, form in forms.items()}


def _kv_bytes(prompt: Prompt, positions: int) -> float | None:
    """Bytes of so many positions in the answering model's KV cache; None for models whose cache is not counted."""
    try:
        return kv_bytes(prompt.lm.model.config, positions)
    except ValueError:
        return None


def chosen_rows(request: Request, models: Models, arm: Arm) -> list[dict[str, Any]]:
    """Sample rows of an arm that takes one of the answers that it is handed.

    The gold's NLL under two models is none: it stays missing, and so does the time, which is mostly that of the answers.
    """
    setting = request.setting
    prompts = {member: prompt_of(request, models, find(member), None, shots=True) for member in ("source", "target")}
    scores = {member: _likelihoods(request, prompt) for member, prompt in prompts.items()}
    chosen = arm.choose(scores)
    both = {f"{arm.name}_{handed}": together(scores, handed) for handed in arm.passes_on}
    return [
        {
            "problem": problem.id,
            "arm": setting.label(arm),
            "prompt_hash": prompt_hash(prompts["target"].rows[i]),
            "template_hash": template_hash(prompts["target"].around),
            "completion": request.answers[chosen[i]][i],
            "chosen": chosen[i],
            **{column: values[i] for column, values in both.items()},
            **dict.fromkeys(("generated_tokens", "truncated", "nll", "nll_tokens", "prompt_tokens", "seconds"), math.nan),
            "shots": prompts["target"].shots,
            "soft_tokens": 0,
            **readings(setting.evaluator, problem, request.answers[chosen[i]][i]),
        }
        for i, problem in enumerate(request.problems)
    ]


def _likelihoods(request: Request, prompt: Prompt) -> dict[str, list[float]]:
    """By arm, the mean log-likelihood a token of each answer that the request hands on, to a prompt's model."""
    found = {}
    for handed, texts in request.answers.items():
        rows = prompt.around.answers([text.strip() for text in texts])
        nll, _ = continuation_nll(prompt, rows)
        found[handed] = [-total / len(row) for total, row in zip(nll, rows, strict=True)]
    return found


def in_order(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, problems: Sequence[Problem]) -> pd.DataFrame:
    """Sample rows as a table, arm by arm in the order of the problems; a missing or doubled row is a fault."""
    frame_ = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    place = {problem.id: number for number, problem in enumerate(problems)}
    assert not frame_.duplicated(["problem", "arm"]).any(), "a problem was answered twice by one arm"
    assert (frame_.groupby("arm").size() == len(place)).all(), "an arm did not answer every problem"
    arms = {arm: number for number, arm in enumerate(dict.fromkeys(frame_["arm"]))}
    key = frame_["arm"].map(arms) * len(place) + frame_["problem"].map(place)
    return frame_.iloc[key.argsort(kind="stable")].reset_index(drop=True)


def summarise(samples: pd.DataFrame, evaluator: Evaluator, *, step: int, split: Split) -> list[dict[str, Any]]:
    """Rows for evals.parquet: one for each arm and reading."""
    return summarised(samples, step=step, split=split, evaluator=evaluator.name, readings=evaluator.readings)
