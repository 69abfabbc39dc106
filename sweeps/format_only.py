"""How much of a bridge is learned format? (A prompt tuned in front of the text: the fair ceiling of accuracy kept.)"""

from dataclasses import replace

from raybridge.losses.beside_text import AnswerBesideText
from raybridge.translators.format_only import FormatOnly
from raybridge.trial import Trial

axes = {
    "pocket": dict(soft_tokens=[16], seed=[1234]),
    "small": dict(soft_tokens=[16], seed=[1234]),
    "full": dict(soft_tokens=[16], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"14_format_only_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=(AnswerBesideText(),),
        translator=FormatOnly(soft_tokens=soft_tokens, layers=base.translator.layers),
    )
