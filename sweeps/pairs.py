"""Does a bridge need a source of its target's own kind? (Itself, a smaller one of its family, another family.)"""

from dataclasses import replace

from raybridge.trial import Trial

PAIRS = {  # source, layers that are read
    "qwen": ("Qwen/Qwen2.5-Coder-1.5B-Instruct", (0, 2, 4, 14, 28)),
    "smollm": ("HuggingFaceTB/SmolLM2-135M-Instruct", (0, 2, 4, 15, 30)),
    "smaller_qwen": ("Qwen/Qwen2.5-Coder-0.5B-Instruct", (0, 2, 4, 12, 24)),
    "pocket": ("pocket:source", (0, 1, 2, 4)),
    "pocket_itself": ("pocket:target", (0, 1, 2, 4)),
    "mistral": ("mistralai/Mistral-7B-Instruct-v0.3", (0, 2, 4, 16, 32)),
    "llama": ("meta-llama/Llama-3.1-8B-Instruct", (0, 2, 4, 16, 32)),
}

axes = {
    "pocket": dict(pair=["pocket_itself", "pocket"], soft_tokens=[16], seed=[1234]),
    "small": dict(pair=["qwen", "smollm", "smaller_qwen"], soft_tokens=[16], seed=[1234]),
    "full": dict(pair=["llama", "mistral"], soft_tokens=[16], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, pair: str, soft_tokens: int, seed: int) -> Trial:
    source, layers = PAIRS[pair]
    letter = "abcdefg"[list(PAIRS).index(pair)]
    return replace(
        base,
        name=f"16{letter}_{pair}_s{seed}_{soft_tokens}tok",
        seed=seed,
        source=source,
        translator=replace(base.translator, soft_tokens=soft_tokens, layers=layers),
    )
