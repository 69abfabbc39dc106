"""How few soft tokens carry a grade-school question?

A question of GSM8K is 59 tokens of Llama's: what has more soft tokens than that compresses nothing. The research plan asks for
128 to 512 all the same; they are named so.
"""

from dataclasses import replace

from raybridge.trial import Trial

PLANNED = [128, 256, 512]
axes = {
    "pocket": dict(soft_tokens=[4, 8, 16, 32], seed=[1234]),
    "small": dict(soft_tokens=[16, 32, 8], seed=[1234]),
    "full": dict(soft_tokens=[4, 8, 12, 16, 24, 32, 48, 64, *PLANNED], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"2{'_planned' if soft_tokens in PLANNED else ''}_stable_s{seed}_{soft_tokens}tok",
        seed=seed,
        translator=replace(base.translator, soft_tokens=soft_tokens),
    )
