"""Do InfoNCE and early stopping keep a trial from degrading?"""

from dataclasses import replace

from raybridge.losses.contrastive import InfoNCE
from raybridge.stopping import Stopping
from raybridge.trial import Trial

axes = {
    "pocket": dict(soft_tokens=[16], fixes=[False, True], seed=[1234]),
    "small": dict(soft_tokens=[16], fixes=[False, True], seed=[1234]),
    "full": dict(soft_tokens=[64], fixes=[False, True], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, soft_tokens: int, fixes: bool, seed: int) -> Trial:
    losses = tuple(loss for loss in base.losses if loss.name != InfoNCE.name)
    return replace(
        base,
        name=f"1{'b_fixed' if fixes else 'a_plain'}_s{seed}_{soft_tokens}tok",
        seed=seed,
        translator=replace(base.translator, soft_tokens=soft_tokens),
        losses=(*losses, InfoNCE()) if fixes else losses,
        stopping=Stopping(patience=5, degradation=0.05) if fixes else Stopping(patience=None, degradation=None),
    )
