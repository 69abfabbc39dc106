"""What comes back from the arms: completions, readings, and the gold's likelihood. Plain torch, no Ray.

Arms that put like prompts to the same model are decoded in one batch, so that controls cost little.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from raybridge.analysis.measures import summarised
from raybridge.data import Evaluator, Problem, Split
from raybridge.evaluation.joint import joint_rows
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import Asked, ask, wire_format
from raybridge.evaluation.scoring import continuation_nll, readings
from raybridge.evaluation.setting import (
    Request,
    problems_of,
    requests_for,
)
from raybridge.models.decode import Completion, greedy, stack
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.prompts import REPEAT_CUE, frame, prompt_hash, template_hash
from raybridge.translators.wire import FORMATS, wire_bytes
from raybridge.trial import Trial

ROWS_AT_ONCE = 384  # rows of several arms that are decoded together on an accelerator, which waits for the host anyway
ROWS_AT_ONCE_ON_CPU = 64  # beyond this a wider batch is no faster (bench/decode.py)


def answer(request: Request, models: Models, weights: Mapping[str, Tensor] | None = None) -> list[dict[str, Any]]:
    """Answer every problem with every arm: a row for each, with the completion, its readings, and the gold's NLL."""
    if request.arms == ("joint",):
        return joint_rows(request, models)
    assert "joint" not in request.arms, "joint rescoring asks both models and stands in no batch with another arm"
    soft_BKD = models.soft_tokens(request, weights) if weights is not None else None
    asked = {arm: ask(request, models, arm, soft_BKD, shots=True, weights=weights) for arm in request.arms}
    rows = []
    for group in _alike(asked, size=len(request.problems)):
        completions, seconds = complete(request, [asked[arm] for arm in group])
        for arm, part in zip(group, completions, strict=True):
            rows += _rows(request, models, arm, asked[arm], part, soft_BKD, weights, seconds)
    return rows


def complete(request: Request, asked: Sequence[Asked]) -> tuple[list[list[Completion]], float]:
    """Completions of each of several arms that share a model and a prompt's beginning, and the seconds a row took."""
    started = time.perf_counter()
    first = asked[0]
    completions = greedy(
        first.lm,
        [stack([one.pieces(one.around.after) for one in asked])],
        max_new_tokens=request.evaluator.max_new_tokens,
        stop=request.evaluator.stop,
        shared=first.shared,
        hardening=request.hardening,
        names=[problem.id for problem in request.problems] * len(asked),
    )
    seconds = (time.perf_counter() - started) / len(completions)
    size = len(request.problems)
    return [completions[start : start + size] for start in range(0, len(completions), size)], seconds


def _alike(asked: Mapping[str, Asked], *, size: int) -> Iterator[list[str]]:
    """The arms in their order, cut where the model or the prompt's beginning changes or a batch becomes too large."""
    group: list[str] = []
    on_cpu = next(iter(asked.values())).lm.device.type == "cpu"
    limit = ROWS_AT_ONCE_ON_CPU if on_cpu else ROWS_AT_ONCE
    for arm, one in asked.items():
        other = asked[group[0]] if group else one
        if group and (other.lm is not one.lm or other.shared != one.shared or (len(group) + 1) * size > limit):
            yield group
            group = []
        group.append(arm)
    yield group


def _rows(
    request: Request,
    models: Models,
    arm: str,
    asked: Asked,
    completions: Sequence[Completion],
    soft_BKD: Tensor | None,
    weights: Mapping[str, Tensor] | None,
    seconds: float,
) -> list[dict[str, Any]]:
    """One arm's sample rows. NLL is measured without exemplars."""
    evaluator, problems = request.evaluator, request.problems
    bare = ask(request, models, arm, soft_BKD, shots=False, weights=weights)
    answers = [bare.around.answer(problem.rationale) for problem in problems]
    nll, first_correct = continuation_nll(bare, bare.around, answers)
    repeat = frame(bare.lm, evaluator, after=REPEAT_CUE).anchored(request.hardening.anchor)
    questions = [repeat.answer(problem.question) for problem in problems]
    reconstruction_nll, _ = continuation_nll(bare, repeat, questions)
    template = template_hash(asked.around)
    return [
        {
            "problem": problem.id,
            "arm": request.label(arm),
            "prompt_hash": prompt_hash(asked.prompt_rows[i]),
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
            "prompt_tokens": len(asked.prompt_rows[i]),
            "question_tokens": len(asked.around.question(problem.question)),
            "soft_tokens": asked.soft_tokens,
            "prompt_bytes": asked.prompt_bytes(i),
            "question_bytes": len(problem.question.encode()),
            **_wire_bytes(asked, arm),
            "kv_bytes": _kv_bytes(asked, i),
            "seconds": seconds,
            **readings(evaluator, problem, completions[i].text),
        }
        for i, problem in enumerate(problems)
    ]


def _wire_bytes(asked: Asked, arm: str) -> dict[str, float | None]:
    """Bytes of a problem's soft tokens on the wire as they travelled, and in every format; None where there are none."""
    forms = {"wire_bytes": wire_format(arm)} | {f"wire_bytes_{name}": form for name, form in FORMATS.items()}
    shape = (asked.soft_tokens, asked.lm.width)
    return {name: wire_bytes(shape, form) if asked.soft_tokens else None for name, form in forms.items()}


def _kv_bytes(asked: Asked, row: int) -> float | None:
    """Bytes of the KV cache of a row's prompt; None for models whose cache is not counted."""
    try:
        return kv_bytes(asked.lm.model.config, len(asked.prompt_rows[row]) + asked.soft_tokens)
    except ValueError:
        return None


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


class LocalEvaluations:
    """Evaluations of one trial in this process: what `train` needs where there is no replica pool."""

    def __init__(self, trial: Trial, models: Models) -> None:
        self.trial, self.models = trial, models
        self._done: dict[tuple[int, str], pd.DataFrame] = {}

    def submit(self, *, step: int, split: Split, arms: tuple[str, ...], weights: Mapping[str, Tensor]) -> None:
        """Evaluate now."""
        requests = requests_for(self.trial, step=step, split=split, arms=arms)
        rows = [row for request in requests for row in answer(request, self.models, weights)]
        self._done[step, split] = in_order(rows, problems_of(self.trial, split))

    def collect(self, *, step: int, split: Split) -> pd.DataFrame:
        """The sample rows of what was submitted."""
        return self._done[step, split]
