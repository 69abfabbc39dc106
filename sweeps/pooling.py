"""Does a resampler carry more than pooling, a linear map, or a constant prompt of the same length?"""

from collections.abc import Callable
from dataclasses import replace
from string import ascii_lowercase
from typing import Any

from raybridge.translators import Translator
from raybridge.translators.attention_pooling import AttentionPooling
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.linear import Linear
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.trial import Trial


def resampler(**fields: Any) -> Callable[[int, tuple[int, ...], int], Translator]:
    """A resampler of depth 4 with these fields besides."""
    return lambda K, layers, width: Bottlenecked(
        soft_tokens=K, layers=layers, width=width, depth=4, heads=width // 64, **fields
    )


MODELS: dict[str, Callable[[int, tuple[int, ...], int], Translator]] = {
    "constant": lambda K, layers, width: PromptTuning(soft_tokens=K, layers=layers),
    "linear_picked": lambda K, layers, width: Linear(soft_tokens=K, layers=layers, pooling="picked"),
    "linear_mean": lambda K, layers, width: Linear(soft_tokens=K, layers=layers, pooling="mean"),
    "attention": lambda K, layers, width: AttentionPooling(soft_tokens=K, layers=layers, width=width, heads=width // 64),
    "resampler": resampler(anchored=False),
    "resampler_anchored": resampler(),
    "resampler_salient": resampler(picking="salient", free_share=0.25),
    "resampler_mean": resampler(picking="mean"),
}

axes = {
    "pocket": dict(model=list(MODELS), width=[128], soft_tokens=[16], seed=[1234]),
    "small": dict(model=list(MODELS), width=[768], soft_tokens=[16], seed=[1234]),
    "full": dict(model=list(MODELS), width=[1024], soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, model: str, width: int, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"7{ascii_lowercase[list(MODELS).index(model)]}_{model}_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=tuple(loss for loss in base.losses if loss.name != "info_nce"),  # a constant prompt has no pairs to tell apart
        translator=MODELS[model](soft_tokens, base.translator.layers, width),
    )
