"""How much of a question's text can K soft tokens replace for a frozen model, and across models? (docs/RESULTS.md)"""

from collections.abc import Callable
from functools import partial

from raybridge.trial import Trial
from sweeps import compression, constant_prompt, format_only, generalisation, longer, pairs

SEED = 1234
COMPARED: dict[str, Callable[[Trial], Trial]] = {
    "32": partial(compression.trial, soft_tokens=32, seed=SEED),
    "16": partial(compression.trial, soft_tokens=16, seed=SEED),
    "8": partial(compression.trial, soft_tokens=8, seed=SEED),
    "format_only": partial(format_only.trial, soft_tokens=4, seed=SEED),
    "squad": partial(generalisation.trial, benchmark="squad", soft_tokens=32, seed=SEED),
    "smollm": partial(pairs.trial, pair="smollm", soft_tokens=16, seed=SEED),
    "second_seed": partial(compression.trial, soft_tokens=16, seed=SEED + 1),
    "third_seed": partial(compression.trial, soft_tokens=16, seed=SEED + 2),
    "32_longer": partial(longer.trial, soft_tokens=32, seed=SEED),
    "16_longer": partial(longer.trial, soft_tokens=16, seed=SEED),
    "constant_prompt": partial(constant_prompt.trial, soft_tokens=16, seed=SEED),
}

axes = {"small": dict(of=list(COMPARED))}


def trial(base: Trial, *, of: str) -> Trial:
    return COMPARED[of](base)
