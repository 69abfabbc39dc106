"""What does the literal question add to a bridge: fading out over the first half of training, or staying under a residual?"""

from dataclasses import replace

from raybridge.losses import Loss
from raybridge.losses.next_token import FadingText, ResidualAnswer
from raybridge.translators.residual import Residual
from raybridge.trial import Trial

VARIANTS = ["soft_only", "text_fades", "text_stays"]

axes = {
    "pocket": dict(variant=VARIANTS, soft_tokens=[16], seed=[1234]),
    "small": dict(variant=VARIANTS, soft_tokens=[32], seed=[1234]),
    "full": dict(variant=VARIANTS, soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, variant: str, soft_tokens: int, seed: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens)
    others = tuple(loss for loss in base.losses if loss.name != "answer")
    answer: Loss = FadingText(steps=base.steps // 2) if variant == "text_fades" else ResidualAnswer()
    return replace(
        base,
        name=f"10{'abc'[VARIANTS.index(variant)]}_{variant}_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=base.losses if variant == "soft_only" else (answer, *others),
        translator=Residual(translator=translator) if variant == "text_stays" else translator,
    )
