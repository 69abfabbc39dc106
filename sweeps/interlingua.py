"""Does one encoder serve two targets as well as one, and does a pretrained source add anything to reading bytes?"""

from dataclasses import replace

from raybridge.losses.other_target import OtherTarget
from raybridge.translators.interlingua import Interlingua
from raybridge.trial import Trial

VARIANTS = ["one_target", "two_targets", "two_targets_from_bytes"]

axes = {
    "pocket": dict(variant=VARIANTS, other=["pocket:source"], width=[128], soft_tokens=[16], seed=[1234]),
    "small": dict(variant=VARIANTS, other=["google/gemma-3-270m"], width=[768], soft_tokens=[16], seed=[1234]),
    "full": dict(
        variant=VARIANTS, other=["mistralai/Mistral-7B-Instruct-v0.3"], width=[1024], soft_tokens=[64], seed=[1234, 1235, 1236]
    ),
}


def trial(base: Trial, *, variant: str, other: str, width: int, soft_tokens: int, seed: int) -> Trial:
    two, read_bytes = variant != "one_target", variant.endswith("bytes")
    return replace(
        base,
        name=f"9{'abc'[VARIANTS.index(variant)]}_{variant}_s{seed}_{soft_tokens}tok",
        seed=seed,
        source="bytes" if read_bytes else base.source,
        losses=(*base.losses, OtherTarget(target=other)) if two else base.losses,
        translator=Interlingua(
            soft_tokens=soft_tokens,
            layers=(0,) if read_bytes else base.translator.layers,
            latent_width=width,
            width=width,
            heads=width // 64,
            also=(other,) if two else (),
        ),
    )
