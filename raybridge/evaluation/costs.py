"""What an answer costs when nothing is kept: seconds from the question to the answer, and memory at its peak.

Every arm is timed on the same problems, spread over the lengths of the questions, and writes as many tokens: an arm that ends
early, or never, is neither faster nor slower for it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from raybridge.arms import Arm, find
from raybridge.data import Problem
from raybridge.evaluation.answering import chosen_rows
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import Prompt, prompt_of
from raybridge.evaluation.setting import Request, by_length
from raybridge.models import free
from raybridge.models.decode import greedy
from raybridge.results.baselines import members_of

BATCHED = 32  # problems that are timed together
TOKENS = 32  # that every arm writes while it is timed; end tokens end nothing
REPEATS = 3  # of each time, whose median counts
STAGES = ("prefill_source", "prefill_translator", "prefill_target", "seconds_a_token")

Weights = Mapping[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of one answering, from questions to answers, and of its stages: None where an arm has none."""

    whole: float
    stages: Mapping[str, float | None]


def spread(problems: Sequence[Problem], count: int) -> list[Problem]:
    """So many problems, drawn evenly over the order of their lengths; all where there are no more."""
    ordered = by_length(problems)
    if count >= len(ordered):
        return ordered
    if count == 1:
        return [ordered[len(ordered) // 2]]
    return [ordered[round(number * (len(ordered) - 1) / (count - 1))] for number in range(count)]


def measure(request: Request, models: Models, arm: Arm, weights: Weights | None, *, alone: int) -> dict[str, dict[str, float]]:
    """Costs of an arm by column, then by problem id: of `alone` problems one by one, and of up to 32 as one batch.

    Seconds are medians of repeats behind a run that warms up, of TOKENS new tokens. A problem's count all that an answer needs:
    the source's reading of the question, the translator, and for the arms that pass answers on, these answers. One by one, an
    arm of the batch reads another problem and answers with its soft tokens. Peak memory is that of the arm's own models during
    the batch on an accelerator, of several the sum of their peaks; on a CPU, where it cannot be reset, the process's so far.
    """
    few, many = spread(request.problems, alone), spread(request.problems, BATCHED)
    runs = {problem.id: _repeated(request, (problem,), models, arm, weights) for problem in few}
    resting = sum(map(_reset, models.devices))
    together = _repeated(request, many, models, arm, weights)
    peak = float(sum(map(peak_bytes, models.devices)) - _of_others(request, models, arm, weights, resting))
    batched = median(run.whole for run in together) / len(many)
    costs: dict[str, dict[str, float]] = {
        "latency_1": {name: median(run.whole for run in told) for name, told in runs.items()},
        "latency_batched": {problem.id: batched for problem in many},
        "peak_bytes": {problem.id: peak for problem in many},
    }
    for stage in STAGES:
        seconds = {name: [one for run in told if (one := run.stages[stage]) is not None] for name, told in runs.items()}
        if all(seconds.values()):
            costs[stage] = {name: median(told) for name, told in seconds.items()}
    return costs


def peak_bytes(device: torch.device) -> int:
    """Peak memory: of the accelerator since it was reset, else of this process."""
    if device.type == "cuda":
        return free.peak_bytes(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reset(device: torch.device) -> int:
    """Forget the accelerator's peak; returns what lies in its memory now."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _of_others(request: Request, models: Models, arm: Arm, weights: Weights | None, resting: int) -> int:
    """Bytes of an accelerator's memory at rest that are not those of the models that the arm needs."""
    if models.device.type != "cuda":
        return 0
    setting = request.setting
    own: list[torch.nn.Module] = [models.load(name).model for name in members(request, arm)]
    if arm.trained and weights is not None:
        own.append(models.module(setting, weights))
    return max(resting - sum(p.nbytes for one in own for p in (*one.parameters(), *one.buffers())), 0)


def members(request: Request, arm: Arm) -> set[str]:
    """Names of the models that an arm needs for an answer, those of the answers that it is handed included."""
    asked = set(members_of(arm))
    if arm.trained or arm.chooses:
        asked |= {"source", "target"}
    setting = request.setting
    return {setting.source if one == "source" else setting.target for one in asked}


def _repeated(request: Request, problems: Sequence[Problem], models: Models, arm: Arm, weights: Weights | None) -> list[Timed]:
    """Several timed answerings, behind one that warms up what a first call compiles or allocates."""
    return [_timed(request, problems, models, arm, weights) for _ in range(REPEATS + 1)][1:]


@torch.no_grad()
def _timed(request: Request, problems: Sequence[Problem], models: Models, arm: Arm, weights: Weights | None) -> Timed:
    """One answering of these problems, stage by stage. The translator's own share is timed on states that are read."""
    asked, device = _of(request, problems, arm), models.device
    models.forget()
    answers, handed = _clocked(device, lambda: {name: _answers(asked, models, find(name)) for name in arm.passes_on})
    asked = replace(asked, answers=answers)
    if arm.chooses:
        _, chosen = _clocked(device, lambda: chosen_rows(asked, models, arm))
        return Timed(whole=handed + chosen, stages=dict.fromkeys(STAGES))
    read = asked
    if arm.of_block and len(problems) == 1:  # nothing to shuffle: another problem's soft tokens, put as `bridged` would be
        other = next(one for one in request.problems if one is not problems[0])
        arm = find("bridged_with_text" if arm.shows_question else "bridged")
        read = _of(request, (other,), arm)
    written, seconds = _clocked(device, lambda: models.written(read, weights, fresh=True))
    translator = None
    if written is not None:
        written = replace(written, names=tuple(asked.setting.ids))
        models.written(read, weights)
        _, translator = _clocked(device, lambda: models.written(read, weights))
    prompt, put = _clocked(device, lambda: prompt_of(asked, models, arm, written, shots=True, weights=weights))
    _, first = _clocked(device, lambda: _complete(asked, prompt, tokens=1))
    _, all_ = _clocked(device, lambda: _complete(asked, prompt, tokens=TOKENS))
    return Timed(
        whole=handed + seconds + put + all_,
        stages={
            "prefill_source": None if translator is None else max(seconds - translator, 0.0),
            "prefill_translator": translator,
            "prefill_target": first,
            "seconds_a_token": max(all_ - first, 0.0) / (TOKENS - 1),
        },
    )


def _of(request: Request, problems: Sequence[Problem], arm: Arm) -> Request:
    """The request for these problems and one arm."""
    return Request(setting=replace(request.setting, problems=tuple(problems)), arms=(arm,), blocks=(tuple(problems),))


def _answers(request: Request, models: Models, arm: Arm) -> tuple[str, ...]:
    return _complete(request, prompt_of(request, models, arm, None, shots=True), tokens=TOKENS)


def _complete(request: Request, prompt: Prompt, *, tokens: int) -> tuple[str, ...]:
    """Completions of exactly so many tokens."""
    completions = greedy(
        prompt.lm,
        prompt.pieces,
        max_new_tokens=tokens,
        shared=prompt.shared,
        hardening=replace(request.setting.hardening, ban_end=tokens),
        names=request.setting.ids,
    )
    return tuple(one.text for one in completions)


def _clocked(device: torch.device, work: Callable[[], T]) -> tuple[T, float]:
    """What some work gives, and the seconds that it took."""
    _wait(device)
    started = time.perf_counter()
    given = work()
    _wait(device)
    return given, time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
