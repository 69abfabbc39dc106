"""How long must a soft prompt be, if each length gets a translator of its own shape and warm-up?"""

from dataclasses import replace

from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.trial import Trial

SHAPES = {  # soft tokens: depth, width, heads, steps of warm-up
    8: (2, 96, 4, 8),
    12: (2, 128, 4, 12),
    16: (3, 160, 5, 16),
    32: (6, 768, 12, 300),
    48: (8, 1024, 16, 450),
    64: (10, 1024, 16, 600),
}

axes = {
    "pocket": dict(soft_tokens=[8, 12, 16], seed=[1234]),
    "small": dict(soft_tokens=[32, 48, 64], seed=[1234]),
    "full": dict(soft_tokens=[32, 48, 64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    depth, width, heads, warmup = SHAPES[soft_tokens]
    layers = base.translator.layers
    return replace(
        base,
        name=f"4{'abc'[list(SHAPES).index(soft_tokens) % 3]}_length_s{seed}_{soft_tokens}tok",
        seed=seed,
        steps=max(base.steps, 2 * warmup),
        warmup=warmup,
        translator=Bottlenecked(soft_tokens=soft_tokens, layers=layers, depth=depth, width=width, heads=heads),
    )
