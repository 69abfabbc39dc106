"""What a translator starts with in closed form: what it is fitted from is read off the first problems of train.

Shapes: B problems, T source positions, L source layers, S source width, N source tokens of some problems, each aligned to a
token of the target.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from raybridge.data import Problem
from raybridge.losses.bridge import Batch
from raybridge.models.pieces import sent
from raybridge.training.batches import Batches
from raybridge.translators import TranslatorModule
from raybridge.translators.ridge import Moments

PROBLEMS = 512  # of train
AT_ONCE = 16  # problems whose states are in memory at one time


@torch.no_grad()
def fit(module: TranslatorModule, batches: Batches, *, problems: int = PROBLEMS) -> None:
    """Fit a translator that is `fitted_from` something; the same on every worker."""
    if not module.fitted_from:
        return
    moments, first = Moments(), batches.problems[:problems]
    parts = [first[start : start + AT_ONCE] for start in range(0, len(first), AT_ONCE)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetching") as aside:
        fetched = aside.submit(_fetched, batches, parts[0])
        for following in (*parts[1:], None):
            batch, aligned = fetched.result()
            if following is not None:  # it is read from disk while these are counted
                fetched = aside.submit(_fetched, batches, following)
            _add(moments, module, batches, batch, aligned)
    module.fit(moments)


def _fetched(batches: Batches, problems: Sequence[Problem]) -> tuple[Batch, list[list[int]]]:
    """Their tokens, and for each source token the target token that it is aligned to; the states are on their way."""
    batch, questions = batches.tokens(problems), [problem.question for problem in problems]
    batches.source.lm.ahead(batches.source.before, batch.source_questions, batches.trial.translator.layers)
    ends = (side.question_ends(questions) for side in (batches.source, batches.target))
    return batch, [align(*both) for both in zip(*ends, strict=True)]


def _add(moments: Moments, module: TranslatorModule, batches: Batches, batch: Batch, aligned: Sequence[Sequence[int]]) -> None:
    """Count the source tokens of a batch's problems."""
    target = batches.target
    states_BTLS, _ = batches.states(batch)
    states_BTLS = module.core_states(states_BTLS)
    wanted: dict[str, Tensor] = {}
    if "embeddings" in module.fitted_from:
        ids = [row[token] for row, tokens in zip(batch.target_questions, aligned, strict=True) for token in tokens]
        wanted["embeddings"] = target.lm.embed(sent(torch.tensor(ids), target.lm.device))
    if "nll" in module.fitted_from:
        before = target.lm.text_piece([target.before] * len(aligned))
        nll_BT = target.lm.answer_nll([before], batch.target_questions)
        wanted["nll"] = torch.cat([nll_BT[row, tokens] for row, tokens in enumerate(aligned)]).unsqueeze(1)
    moments.add(torch.cat([states_BTLS[row, : len(tokens)].flatten(1) for row, tokens in enumerate(aligned)]), wanted)


def align(source_ends: Sequence[int], target_ends: Sequence[int]) -> list[int]:
    """For each source token, the target token that covers its last character. Ends are offsets in the same text."""
    return [bisect_left(target_ends, end) for end in source_ends]
