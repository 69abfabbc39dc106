"""How much of a question's text can K soft tokens replace for a frozen model, and across models? (docs/RESULTS.md)"""

from collections.abc import Callable
from functools import partial

from raybridge.trial import Trial
from sweeps import compression, constant_prompt, format_only, generalisation, longer, more_questions, muon, narrowing, pairs

SEED = 1234
COMPARED: dict[str, Callable[[Trial], Trial]] = {
    "32": partial(compression.trial, soft_tokens=32, seed=SEED),
    "16": partial(compression.trial, soft_tokens=16, seed=SEED),
    "8": partial(compression.trial, soft_tokens=8, seed=SEED),
    "format_only": partial(format_only.trial, soft_tokens=4, seed=SEED),
    "squad": partial(generalisation.trial, benchmark="squad", soft_tokens=32, seed=SEED),
    "smollm": partial(pairs.trial, pair="smollm", soft_tokens=16, seed=SEED),
    "constant_prompt": partial(constant_prompt.trial, soft_tokens=16, seed=SEED),
    "16_muon": partial(muon.trial, soft_tokens=16, seed=SEED),
    "32_longer": partial(longer.trial, soft_tokens=32, seed=SEED),
    "16_longer": partial(longer.trial, soft_tokens=16, seed=SEED),
    "16_longer_second_seed": partial(longer.trial, soft_tokens=16, seed=SEED + 1),
    "16_longer_third_seed": partial(longer.trial, soft_tokens=16, seed=SEED + 2),
    "16_varied": partial(more_questions.trial, varied=1, soft_tokens=16, seed=SEED),
    "16_narrowing": partial(narrowing.trial, times=4, soft_tokens=16, seed=SEED),
    "8_longer": partial(longer.trial, soft_tokens=8, seed=SEED),
    "smollm_longer": lambda base: longer.longer(pairs.trial(base, pair="smollm", soft_tokens=16, seed=SEED)),
    "squad_longer": lambda base: longer.longer(generalisation.trial(base, benchmark="squad", soft_tokens=32, seed=SEED)),
}

axes = {"small": dict(of=list(COMPARED))}


def trial(base: Trial, *, of: str) -> Trial:
    return COMPARED[of](base)
