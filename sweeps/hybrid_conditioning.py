"""What does the literal question add to a bridge: fading out over the first half, or staying under additions to it?"""

from dataclasses import replace

from raybridge.losses import Loss
from raybridge.losses.next_token import FadingText, ResidualAnswer
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.injection import Injection
from raybridge.translators.residual import Residual
from raybridge.trial import Trial

VARIANTS = ["soft_only", "text_fades", "text_stays", "text_stays_injected"]

axes = {
    "pocket": dict(variant=VARIANTS, inject=[(1, 3)], soft_tokens=[16], seed=[1234]),
    "small": dict(variant=VARIANTS, inject=[(4, 12, 20)], soft_tokens=[32], seed=[1234]),
    "full": dict(variant=VARIANTS, inject=[(8, 16, 24)], soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, variant: str, inject: tuple[int, ...], soft_tokens: int, seed: int) -> Trial:
    # Soft token k is added at the k-th of evenly picked tokens: it must stand for that one.
    translator = evenly(replace(base.translator, soft_tokens=soft_tokens))
    if variant == "text_stays":
        translator = Residual(translator=translator)
    elif variant == "text_stays_injected":
        translator = Injection(translator=translator, target_layers=inject)
    others = tuple(loss for loss in base.losses if loss.name != "answer")
    answer: Loss = FadingText(steps=base.steps // 2) if variant == "text_fades" else ResidualAnswer()
    return replace(
        base,
        name=f"10{'abcd'[VARIANTS.index(variant)]}_{variant}_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=base.losses if variant == "soft_only" else (answer, *others),
        translator=translator,
    )
