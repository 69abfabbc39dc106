"""How few soft tokens carry a question from SmolLM2-135M to itself, which answers no problem of GSM8K: likelihoods tell.

The pair of the first runs on a GPU (docs/LOG.md), with the benchmark's worked answers alone and no exemplars.
"""

from dataclasses import replace

from evaluators.gsm8k import GSM8K
from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.trial import Trial

SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
axes = {"small": dict(soft_tokens=[4, 8, 16, 32], seed=[1234])}


def smollm(base: Trial) -> Trial:
    """SmolLM2 to itself as it was trained before a pair was there that can do the task."""
    return replace(
        base,
        source=SMOLLM,
        target=SMOLLM,
        translator=replace(base.translator, layers=(0, 2, 4, 12, 20, 30), width=384, heads=6),
        losses=(AnswerNLL(), Reconstruction(), InfoNCE()),
        evaluator=GSM8K(shots=0),
        steps=1500,
        batch=128,
        warmup=100,
        eval_every=250,
        test_problems=500,
        mixture=None,
        own_answers=None,
        exemplars=False,
    )


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    small = smollm(base)
    translator = replace(small.translator, soft_tokens=soft_tokens)
    return replace(small, name=f"17_smollm_s{seed}_{soft_tokens}tok", seed=seed, translator=translator)
