"""How few soft tokens carry a grade-school question?"""

from dataclasses import replace

from raybridge.trial import Trial

axes = {
    "pocket": dict(soft_tokens=[4, 8, 16, 32], seed=[1234]),
    "small": dict(soft_tokens=[4, 8, 16, 32], seed=[1234]),
    "full": dict(soft_tokens=[32, 48, 64, 128, 256, 512], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"2_stable_s{seed}_{soft_tokens}tok",
        seed=seed,
        translator=replace(base.translator, soft_tokens=soft_tokens),
    )
