"""How much of a bridge is learned format? (A prompt tuned in front of the text: the fair ceiling of accuracy kept.)"""

from dataclasses import replace

from raybridge.losses.beside_text import AnswerBesideText
from raybridge.translators.format_only import FormatOnly
from raybridge.trial import Trial

# Few: before the pocket target 16 tokens, which start as noise, still harm the text after 120 steps (0.77 of 64 dev problems
# right; with 4 tokens 0.94).
axes = {
    "pocket": dict(soft_tokens=[4], seed=[1234]),
    "small": dict(soft_tokens=[4], seed=[1234]),
    "full": dict(soft_tokens=[4], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"14_format_only_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=(AnswerBesideText(),),
        mixture=None,  # of a text without an answer it learns nothing
        batch=base.problems_a_batch,
        translator=FormatOnly(soft_tokens=soft_tokens, layers=base.translator.layers),
    )
