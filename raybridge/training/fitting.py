"""What a translator starts with in closed form: what it is fitted from is read off the first problems of train.

Shapes: B problems, T source positions, L source layers, S source width, or features of a position (layers x width), D target
width, N source tokens of all problems, each aligned to a token of the target.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch

from raybridge.training.batches import Batches
from raybridge.translators import TranslatorModule


@torch.no_grad()
def fit(module: TranslatorModule, batches: Batches, *, problems: int = 512) -> None:
    """Fit a translator that is `fitted_from` something; the same on every worker."""
    if not module.fitted_from:
        return
    source, target, first = batches.source, batches.target, batches.problems[:problems]
    batch = batches.tokens(first)
    states_BTLS, _ = batches.states(batch)
    aligned = [align(source.question_ends(problem.question), target.question_ends(problem.question)) for problem in first]
    states_BTLS = module.core_states(states_BTLS)
    states_NS = torch.cat([states_BTLS[row, : len(tokens)].flatten(1) for row, tokens in enumerate(aligned)])
    embeddings_ND = nll_N = None
    if "embeddings" in module.fitted_from:
        ids = [torch.tensor(row)[tokens] for row, tokens in zip(batch.target_questions, aligned, strict=True)]
        embeddings_ND = target.lm.embed(torch.cat(ids).to(target.lm.device)).float()
    if "nll" in module.fitted_from:
        before = target.lm.text_piece([target.before] * len(first))
        nll_BT = target.lm.answer_nll([before], batch.target_questions)
        nll_N = torch.cat([nll_BT[row, tokens] for row, tokens in enumerate(aligned)])
    module.fit(states_NS, embeddings_ND, nll_N)


def align(source_ends: Sequence[int], target_ends: Sequence[int]) -> list[int]:
    """For each source token, the target token that covers its last character. Ends are offsets in the same text."""
    return [bisect_left(target_ends, end) for end in source_ends]
