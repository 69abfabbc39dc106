"""What an answer costs when nothing is kept: seconds from the question to the answer, and memory at its peak."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raybridge.arms import Arm, find
from raybridge.data import Problem
from raybridge.evaluation.answering import chosen_rows, complete
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import prompt_of
from raybridge.evaluation.setting import Request

BATCHED = 32  # problems that are timed together


def measure(
    request: Request, models: Models, arm: Arm, weights: Mapping[str, Tensor] | None, *, alone: int
) -> dict[str, dict[str, float]]:
    """Costs of an arm by column, then by problem id: of `alone` problems one by one, and of up to 32 as one batch.

    Seconds a problem count all that an answer needs: the source's reading of the question, the translator, and for the arms
    that pass answers on, these answers. One by one, an arm of the batch reads another problem and answers with its soft tokens.
    Peak memory is the accelerator's during the batch; on a CPU, where it cannot be reset, the process's so far.
    """
    few, many = request.problems[:alone], request.problems[:BATCHED]
    _whole(request, few[:1], models, arm, weights)  # warms up what a first call compiles or allocates
    one_by_one = {problem.id: _whole(request, (problem,), models, arm, weights) for problem in few}
    if models.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(models.device)
    together = _whole(request, many, models, arm, weights) / len(many)
    peak = float(peak_bytes(models.device))
    return {
        "latency_1": one_by_one,
        "latency_batched": {problem.id: together for problem in many},
        "peak_bytes": {problem.id: peak for problem in many},
    }


def peak_bytes(device: torch.device) -> int:
    """Peak memory: of the accelerator since it was reset, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@torch.no_grad()
def _whole(
    request: Request, problems: Sequence[Problem], models: Models, arm: Arm, weights: Mapping[str, Tensor] | None
) -> float:
    """Seconds from these problems' questions to their answers."""
    asked = _of(request, problems, arm)
    models.forget()
    _wait(models.device)
    started = time.perf_counter()
    asked = replace(asked, answers={handed: _answers(asked, models, find(handed)) for handed in arm.passes_on})
    if arm.chooses:
        chosen_rows(asked, models, arm)
    else:
        read = asked
        if arm.of_block and len(problems) == 1:  # nothing to shuffle: another problem's soft tokens, put as `bridged`
            other = next(one for one in request.problems if one is not problems[0])
            arm = find("bridged")
            read = _of(request, (other,), arm)
        written = models.written(read, weights, fresh=True)
        if written is not None:
            written = replace(written, names=tuple(asked.setting.ids))
        complete(asked, [prompt_of(asked, models, arm, written, shots=True, weights=weights)])
    _wait(models.device)
    return time.perf_counter() - started


def _of(request: Request, problems: Sequence[Problem], arm: Arm) -> Request:
    """The request for these problems and one arm."""
    return Request(setting=replace(request.setting, problems=tuple(problems)), arms=(arm,), blocks=(tuple(problems),))


def _answers(request: Request, models: Models, arm: Arm) -> tuple[str, ...]:
    (completions,), _ = complete(request, [prompt_of(request, models, arm, None, shots=True)])
    return tuple(completion.text for completion in completions)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
