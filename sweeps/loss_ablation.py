"""With all fixes on, does the bridge carry the question, and if not, which of them is in the way?

All fixes run first. By the mean of the dev accuracies of their chosen checkpoints (test is read once, at the end) the
ablations follow: at 0.70 or above none; at 0.65 to 0.69 B and C; below 0.65 A, B and C.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from raybridge.losses import Loss
from raybridge.losses.alignment import PromptAlignment
from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.distillation import TextKL
from raybridge.losses.next_token import AnswerNLL
from raybridge.losses.on_policy import DecodeAware
from raybridge.stopping import Stopping
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.options import Projected
from raybridge.trial import Trial

GOES_ON, STOPS = Stopping(patience=None, degradation=None), Stopping(patience=5, degradation=0.05)
A = (AnswerNLL(), TextKL())
B = (*A, InfoNCE())


def all_terms(base: Trial) -> tuple[Loss, ...]:
    """Every fix of the losses: decodes are looked at once an evaluation, and those that are wrong taught the answer."""
    tokens = base.evaluator.max_new_tokens
    decodes = DecodeAware(every=base.eval_every, problems=16, tokens=tokens, supervision="answer")
    return (*B, PromptAlignment(), decodes)


axes = {
    "pocket": dict(soft_tokens=[32], seed=[1234, 1235]),
    "small": dict(soft_tokens=[32], seed=[1234, 1235]),
    "full": dict(soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    # Prompt alignment pulls soft token k towards the k-th of evenly picked tokens: it must stand for that one.
    even = evenly(replace(base.translator, soft_tokens=soft_tokens))
    name = f"3d_all_fixes_s{seed}_{soft_tokens}tok"
    return replace(base, name=name, seed=seed, losses=all_terms(base), stopping=STOPS, translator=Projected(translator=even))


def follow_up(ended: Sequence[tuple[Trial, Mapping[str, Any]]]) -> list[Trial]:
    best = round(fmean(result["best"] for _, result in ended), 6)
    wanted = "" if best >= 0.70 else "BC" if best >= 0.65 else "ABC"
    return [ablated(full, letter) for letter in wanted for full, _ in ended]


def ablated(full: Trial, letter: str) -> Trial:
    losses = {"A": A, "B": B, "C": all_terms(full)}[letter]
    assert isinstance(full.translator, Projected)
    name = f"3{letter.lower()}_ablation_s{full.seed}_{full.translator.soft_tokens}tok"
    return replace(
        full, name=name, losses=losses, stopping=GOES_ON if letter == "A" else STOPS, translator=full.translator.translator
    )
