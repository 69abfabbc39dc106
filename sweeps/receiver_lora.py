"""What does freezing the target cost? (A small LoRA on it behind the tuned prompt of `format_only`, the question as text.)"""

from dataclasses import replace

from raybridge.losses.beside_text import AnswerBesideText
from raybridge.translators.receiver_lora import ReceiverLoRA
from raybridge.trial import Trial

axes = {
    "pocket": dict(rank=[8], soft_tokens=[4], seed=[1234]),
    "small": dict(rank=[8], soft_tokens=[4], seed=[1234]),
    "full": dict(rank=[8], soft_tokens=[4], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, rank: int, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"15_receiver_lora_r{rank}_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=(AnswerBesideText(),),
        mixture=None,  # of a text without an answer it learns nothing
        batch=base.problems_a_batch,
        exemplars=False,  # a target that is trained reads them anew in every row: their keys and values are not fixed
        translator=ReceiverLoRA(soft_tokens=soft_tokens, layers=base.translator.layers, target=base.target, rank=rank),
    )
