"""How much more does a longer training of a deeper translator carry? Twice the steps of `compression`, twice the blocks."""

from dataclasses import replace

from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.trial import Trial
from sweeps import compression

STEPS, DEPTH = 2, 2  # times those of the base trial

axes = {
    "pocket": dict(soft_tokens=[8, 16], seed=[1234]),
    "small": dict(soft_tokens=[32, 16], seed=[1234]),
    "full": dict(soft_tokens=[16, 64], seed=[1234]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    of_size = compression.trial(base, soft_tokens=soft_tokens, seed=seed)
    assert isinstance(of_size.translator, Bottlenecked)
    return replace(
        of_size,
        name=of_size.name.replace("stable", "longer"),
        steps=STEPS * base.steps,
        eval_every=STEPS * base.eval_every,
        translator=replace(of_size.translator, depth=DEPTH * of_size.translator.depth),
    )
