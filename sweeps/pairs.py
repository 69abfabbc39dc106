"""Does a bridge need a source of its target's own kind? (Itself, a third of its size, another family a tenth of its size.)"""

from dataclasses import replace

from raybridge.trial import Trial

PAIRS = {  # source, layers that are read
    "itself": ("Qwen/Qwen2.5-Coder-1.5B-Instruct", (0, 2, 4, 14, 28)),
    "smollm": ("HuggingFaceTB/SmolLM2-135M-Instruct", (0, 2, 4, 15, 30)),
    "smaller": ("Qwen/Qwen2.5-Coder-0.5B-Instruct", (0, 2, 4, 12, 24)),
}

axes = {"small": dict(pair=list(PAIRS), soft_tokens=[16], seed=[1234])}


def trial(base: Trial, *, pair: str, soft_tokens: int, seed: int) -> Trial:
    source, layers = PAIRS[pair]
    letter = "abc"[list(PAIRS).index(pair)]
    return replace(
        base,
        name=f"16{letter}_{pair}_s{seed}_{soft_tokens}tok",
        seed=seed,
        source=source,
        translator=replace(base.translator, soft_tokens=soft_tokens, layers=layers),
    )
