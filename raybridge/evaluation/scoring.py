"""What a completion is worth: its readings, and how likely a model finds a text.

Shapes: B rows, C rows of a part, T positions behind what all rows share, A tokens of a continuation, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from raybridge.data import Evaluator, Problem
from raybridge.evaluation.prompt import Prompt
from raybridge.models.capacity import halved
from raybridge.models.decode import greedy
from raybridge.models.frozen import POSITIONS
from raybridge.models.kv_cache import growing_cache
from raybridge.models.lm import FrozenLM
from raybridge.models.packing import within_window
from raybridge.models.parts import that_fit
from raybridge.models.pieces import Piece, join, pad, taken
from raybridge.models.prefill import Prefix, read_on

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
    hidden_BAD, ids_BA, _ = continuation_states(prompt, rows)
    likeliest_B = prompt.lm.logits(hidden_BAD[:, 0]).argmax(dim=-1)
    nll_BA = prompt.lm.states_nll(hidden_BAD, ids_BA, list(map(len, rows)))
    return nll_BA.sum(1).tolist(), (likeliest_B == ids_BA[:, 0]).tolist()


def continuation_states(prompt: Prompt, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Last hidden states (B, A, D) that predict the tokens of `rows` behind the prompt, the ids (B, A) and their mask.

    What all prompts share, exemplars above all, is read once where the model can attend to one copy of it.
    """
    lm, shared = prompt.lm, prompt.shared
    longest = max(prompt.lengths) + max(map(len, rows))
    if not (shared and lm.shares_prompts and within_window(lm.model, longest)):
        return lm.continuation_states([lm.text_piece([shared] * len(rows)), *prompt.pieces], rows)
    prefix = Prefix.read(lm, shared, once=True)
    ids_BA, mask_BA = pad(rows, pad_id=lm.tokenizer.pad_token_id, side="right", device=lm.device)
    whole = join([*prompt.pieces, Piece(embeds_BTD=lm.embed(ids_BA), mask_BT=mask_BA)])
    last_B1 = torch.tensor(prompt.lengths, device=lm.device).unsqueeze(1) - len(shared) - 1
    hidden_BAD = whole.embeds_BTD.new_zeros(*ids_BA.shape, lm.width)

    def read(part: Sequence[int]) -> Sequence[int]:
        some = whole.rows(part).shorter(max(whole.lengths[row] for row in part))
        with lm.injecting(some.injected):
            states_CTD = read_on(lm, growing_cache(lm.model.config), some.embeds_BTD, prefix=prefix)
        place_CA = last_B1[part] + torch.arange(ids_BA.shape[1], device=lm.device)
        hidden_BAD[part] = taken(states_CTD, place_CA.clamp(max=states_CTD.shape[1] - 1))
        return part

    for part in that_fit(whole.lengths, free=POSITIONS):
        halved(part, read)
    return hidden_BAD, ids_BA, mask_BA


def check_alignment(prompt: Prompt) -> None:
    """Assert of an evaluation's prompts what `check_first_token` does."""
    check_first_token(prompt.lm, prompt.shared, prompt.pieces)


@torch.no_grad()
def check_first_token(lm: FrozenLM, shared: Sequence[int], pieces: Sequence[Piece]) -> None:
    """Assert that the first token of an answer is predicted from the same place in training and in decoding.

    shared: what stands before the pieces in every row.
    """
    decoded = [one.first for one in greedy(lm, pieces, max_new_tokens=1, shared=shared)]
    before = lm.text_piece([shared] * len(decoded))
    hidden_BAD, ids_BA, _ = lm.continuation_states([before, *pieces], [[token] for token in decoded])
    logits_BV = lm.logits(hidden_BAD[:, 0])
    behind_B = logits_BV.max(dim=-1).values - logits_BV.gather(1, ids_BA[:, :1])[:, 0]
    assert behind_B.max().item() <= SLACK[lm.model.dtype], (
        "training and decoding do not read the first answer token from the same position: the token that decoding chose is "
        f"{behind_B.max().item():.2f} behind the likeliest in training"
    )
