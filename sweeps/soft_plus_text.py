"""What do soft tokens add to the question itself, if they are trained in front of its text?"""

from dataclasses import replace

from raybridge.losses.beside_text import AnswerBesideText
from raybridge.translators.options import BesideText
from raybridge.trial import Trial

axes = {
    "pocket": dict(soft_tokens=[16], seed=[1234]),
    "small": dict(soft_tokens=[16], seed=[1234]),
    "full": dict(soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    others = tuple(loss for loss in base.losses if loss.name != "answer")
    return replace(
        base,
        name=f"16_soft_plus_text_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=(AnswerBesideText(), *others),
        translator=BesideText(translator=replace(base.translator, soft_tokens=soft_tokens)),
    )
