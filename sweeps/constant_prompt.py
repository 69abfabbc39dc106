"""How far does a prompt come that is the same for every question? (The arm `prompt_tuning`: every bridge must beat it.)"""

from dataclasses import replace

from raybridge.losses import Loss
from raybridge.losses.distillation import TextKL
from raybridge.losses.next_token import AnswerNLL
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.trial import Trial

axes = {
    "pocket": dict(soft_tokens=[16], seed=[1234]),
    "small": dict(soft_tokens=[16], seed=[1234]),
    "full": dict(soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    losses: tuple[Loss, ...] = tuple(loss for loss in base.losses if isinstance(loss, AnswerNLL | TextKL))
    return replace(
        base,
        name=f"18_constant_prompt_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=losses,  # it can repeat no question
        mixture=None,
        batch=base.problems_a_batch,
        translator=PromptTuning(soft_tokens=soft_tokens, layers=base.translator.layers),
    )
