"""What a completion is worth: its readings, and how likely a model finds a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from raybridge.data import Evaluator, Problem
from raybridge.evaluation.prompt import Prompt
from raybridge.models.decode import greedy

SLACK = {torch.float32: 0.01, torch.bfloat16: 0.5, torch.float16: 0.1}  # logits by which two ways to compute one may differ


def readings(evaluator: Evaluator, problem: Problem, completion: str) -> dict[str, Any]:
    """What each reading finds in a completion, and its score."""
    found, scores = evaluator.read(completion), evaluator.grade(problem, completion)
    return {f"answer_{reading}": found[reading] for reading in evaluator.readings} | {
        f"score_{reading}": float(scores[reading]) for reading in evaluator.readings
    }


@torch.no_grad()
def continuation_nll(prompt: Prompt, rows: Sequence[Sequence[int]]) -> tuple[list[float], list[bool]]:
    """Summed NLL of each row's continuation behind its prompt, and whether its first token is the likeliest."""
    before = prompt.lm.text_piece([prompt.shared] * len(rows))
    hidden_BAD, ids_BA, mask_BA = prompt.lm.continuation_states([before, *prompt.pieces], rows)
    likeliest_B = prompt.lm.logits(hidden_BAD[:, 0]).argmax(dim=-1)
    nll_BA = prompt.lm.states_nll(hidden_BAD, ids_BA, mask_BA)
    return nll_BA.sum(1).tolist(), (likeliest_B == ids_BA[:, 0]).tolist()


@torch.no_grad()
def check_alignment(prompt: Prompt) -> None:
    """Assert that the first token of an answer is predicted from the same place in training and in decoding."""
    lm, pieces = prompt.lm, prompt.pieces
    decoded = [one.first for one in greedy(lm, pieces, max_new_tokens=1, shared=prompt.shared)]
    before = lm.text_piece([prompt.shared] * len(decoded))
    hidden_BAD, ids_BA, _ = lm.continuation_states([before, *pieces], [[token] for token in decoded])
    logits_BV = lm.logits(hidden_BAD[:, 0])
    behind_B = logits_BV.max(dim=-1).values - logits_BV.gather(1, ids_BA[:, :1])[:, 0]
    assert behind_B.max().item() <= SLACK[lm.model.dtype], (
        "training and decoding do not read the first answer token from the same position: the token that decoding chose is "
        f"{behind_B.max().item():.2f} behind the likeliest in training"
    )
