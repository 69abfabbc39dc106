"""How far apart are trials that differ in their seed alone? (The A/A band: a ranking inside it is a tie.)"""

from dataclasses import replace

from raybridge.trial import Trial

SEEDS = [1234, 1235, 1236, 1237, 1238]
axes = {scale: dict(seed=SEEDS) for scale in ("pocket", "small", "full")}


def trial(base: Trial, *, seed: int) -> Trial:
    letter = "abcde"[SEEDS.index(seed)]
    return replace(base, name=f"0{letter}_replicate_s{seed}_{base.translator.soft_tokens}tok", seed=seed)
