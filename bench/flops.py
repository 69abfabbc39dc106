"""The arithmetic that a training step cannot do without: what MFU counts. Padding, recomputing and reading twice is none of it.

Of the target, for each problem: the frame, the soft tokens and what both cues begin with once, then the answer and the
repetition, each behind the rest of its cue and without its last token, which predicts nothing. A position takes 2 FLOP a weight
of the layers on the way forward; back to the soft tokens, whose weights are frozen, another 2 for every position from the first
soft token on. The head takes 2 and 2 for every token that it is asked to predict. Attention takes 4 FLOP a head's width for
each position that is seen, and twice that on the way back. Of the translator: what one pass of it takes, counted, and twice
that for the way back. Of the source, where it reads: 2 FLOP a weight of its layers and position.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raybridge.losses.bridge import SHARED_TOKENS, Batch, cut
from raybridge.models.frozen import FrozenLM
from raybridge.models.shape import head_sizes
from raybridge.models.shared_prefix import cues_apart
from raybridge.translators import TranslatorModule


def weights_of(lm: FrozenLM) -> tuple[int, int]:
    """Weights that a position is multiplied with in the layers, and in the head."""
    layers = sum(p.numel() for p in lm.layers.parameters() if p.dim() > 1)
    return layers, lm.model.get_output_embeddings().weight.numel()


def seen(start: int, end: int) -> int:
    """Positions that those from start up to end see, each itself and all before it."""
    return (end * (end + 1) - start * (start + 1)) // 2


def of_target(
    lm: FrozenLM, batch: Batch, *, before: int, soft: int, after: Sequence[int], after_repeat: Sequence[int]
) -> float:
    """Of the target for a batch. before: how many tokens stand before the soft tokens. after, after_repeat: behind them."""
    layers, head = weights_of(lm)
    config = lm.model.config.get_text_config()
    attention = 4.0 * config.num_attention_heads * sum(head_sizes(config))
    rows = [cut(texts, SHARED_TOKENS) for texts in (batch.answers, batch.repeats)]
    begun, left = cues_apart(list(zip((after, after_repeat), rows, strict=True)))
    total, shared = 0.0, before + soft + len(begun)
    for texts in zip(*rows, strict=True):
        ends = [shared + len(cue) + len(text) - 1 for (cue, _), text in zip(left, texts, strict=True)]
        forward = shared + sum(end - shared for end in ends)
        total += 2.0 * layers * (forward + forward - before) + 4.0 * head * sum(map(len, texts))
        whole = seen(0, shared) + sum(seen(shared, end) for end in ends)
        total += attention * (whole + 2 * (whole - seen(0, before)))
    return total


def of_source(lm: FrozenLM, questions: Sequence[Sequence[int]], *, before: int) -> float:
    """Of the source for questions behind so many tokens."""
    layers, _ = weights_of(lm)
    config = lm.model.config.get_text_config()
    attention = 4.0 * config.num_attention_heads * sum(head_sizes(config))
    return sum(2.0 * layers * (before + len(row)) + attention * seen(0, before + len(row)) for row in questions)


def of_translator(module: TranslatorModule, states_BTLS: Tensor, mask_BT: Tensor) -> float:
    """Of the translator for a batch's states: a pass and its way back."""
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(states_BTLS, mask_BT)
    return 3.0 * counted.get_total_flops()
