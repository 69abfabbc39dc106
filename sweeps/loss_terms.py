"""Which loss terms carry the question?

Each further term stands alone beside the base, answer, reconstruction and InfoNCE, and the base stands without its own terms.
"""

from dataclasses import replace

from raybridge.losses import Loss
from raybridge.losses.alignment import SourceProbe
from raybridge.losses.contrastive import InfoNCE, PromptContrast
from raybridge.losses.distillation import HiddenStates
from raybridge.losses.next_token import AnswerNLL, FirstTokens, Format, Reconstruction
from raybridge.trial import Trial

BASE = (AnswerNLL(), Reconstruction(), InfoNCE())
TERMS: dict[str, tuple[Loss, ...]] = {
    "11a_answer": (AnswerNLL(),),
    "11b_answer_reconstruction": (AnswerNLL(), Reconstruction()),
    "11c_answer_infonce": (AnswerNLL(), InfoNCE()),
    "11d_base": BASE,
    "11e_first_tokens": (*BASE, FirstTokens()),
    "11f_hidden_states": (*BASE, HiddenStates()),
    "11g_format": (*BASE, Format()),
    "11h_source_probe": (*BASE, SourceProbe()),
    "11i_prompt_contrast": (*BASE, PromptContrast()),
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
