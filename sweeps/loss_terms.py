"""Which loss terms carry the question?"""

from dataclasses import replace

from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.trial import Trial

TERMS = {
    "11a_answer": (AnswerNLL(),),
    "11b_answer_reconstruction": (AnswerNLL(), Reconstruction()),
    "11c_answer_infonce": (AnswerNLL(), InfoNCE()),
    "11d_all": (AnswerNLL(), Reconstruction(), InfoNCE()),
}

axes = {
    "pocket": dict(terms=list(TERMS), soft_tokens=[16], seed=[1234]),
    "small": dict(terms=list(TERMS), soft_tokens=[16], seed=[1234]),
    "full": dict(terms=list(TERMS), soft_tokens=[64], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, terms: str, soft_tokens: int, seed: int) -> Trial:
    return replace(
        base,
        name=f"{terms}_s{seed}_{soft_tokens}tok",
        seed=seed,
        losses=TERMS[terms],
        translator=replace(base.translator, soft_tokens=soft_tokens),
    )
