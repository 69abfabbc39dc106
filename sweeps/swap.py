"""Does a bridge carry as much in the other direction?"""

from dataclasses import replace

from raybridge.trial import Trial

MISTRAL, LLAMA = "mistralai/Mistral-7B-Instruct-v0.3", "meta-llama/Llama-3.1-8B-Instruct"
SMOLLM, GEMMA = "HuggingFaceTB/SmolLM2-135M-Instruct", "google/gemma-3-270m"
PAIRS = {  # direction: source, target, layers that are read
    "pocket": ("pocket:source", "pocket:target", (0, 1, 2, 4)),
    "pocket_swapped": ("pocket:target", "pocket:source", (0, 1, 2, 4)),
    "smollm_gemma": (SMOLLM, GEMMA, (0, 2, 4, 12, 20, 30)),
    "gemma_smollm": (GEMMA, SMOLLM, (0, 2, 4, 8, 13, 18)),
    "mistral_llama": (MISTRAL, LLAMA, (0, 2, 4, 16, 32)),
    "llama_mistral": (LLAMA, MISTRAL, (0, 2, 4, 16, 32)),
}

axes = {
    "pocket": dict(pair=["pocket", "pocket_swapped"], seed=[1234]),
    "small": dict(pair=["smollm_gemma", "gemma_smollm"], seed=[1234]),
    "full": dict(pair=["mistral_llama", "llama_mistral"], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, pair: str, seed: int) -> Trial:
    source, target, layers = PAIRS[pair]
    letter = "ab"[list(PAIRS).index(pair) % 2]
    return replace(
        base,
        name=f"5{letter}_{pair}_s{seed}_{base.translator.soft_tokens}tok",
        seed=seed,
        source=source,
        target=target,
        translator=replace(base.translator, layers=layers),
        own_answers=None,  # small targets have none that are right
        exemplars=False,
    )
