"""What does a diffusion translator carry, through how many steps, and what should it be taught towards?

The flow's teacher is the question's tokens or the answer's. Each is judged through as many steps as it was trained through.
"""

from dataclasses import replace

from raybridge.losses.flow import Flow, Teacher
from raybridge.translators.dit import DiT
from raybridge.translators.hybrid_dit import HybridDiT
from raybridge.trial import Trial

MODELS = {
    "mean": lambda **shape: DiT(pooling="mean", **shape),
    "attention": lambda **shape: DiT(pooling="attention", **shape),
    "hybrid": lambda **shape: HybridDiT(pooling="attention", **shape),
}

FLOWS = dict(model=list(MODELS), teacher=["prompt", "answer"], steps=[1, 2, 4])
axes = {
    "pocket": dict(**FLOWS, width=[128], depth=[2], soft_tokens=[16], seed=[1234]),
    "small": dict(**FLOWS, width=[768], depth=[6], soft_tokens=[16], seed=[1234]),
    "full": dict(**FLOWS, width=[1024], depth=[8], soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(
    base: Trial, *, model: str, teacher: Teacher, steps: int, width: int, depth: int, soft_tokens: int, seed: int
) -> Trial:
    letter = "abcdef"[2 * list(MODELS).index(model) + (teacher == "answer")]
    return replace(
        base,
        name=f"6{letter}_dit_{model}_{teacher}_{steps}steps_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=(*base.losses, Flow(teacher=teacher)),
        translator=MODELS[model](
            soft_tokens=soft_tokens,
            layers=base.translator.layers,
            width=width,
            depth=depth,
            heads=width // 64,
            train_steps=steps,
        ),
    )
