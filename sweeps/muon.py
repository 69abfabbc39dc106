"""Does Muon train a translator better than AdamW in as many steps? The same trials as `compression`, their maps moved by it."""

from dataclasses import replace

from raybridge.translators.optimizer import Muon
from raybridge.trial import Trial
from sweeps import compression

RATE = 5  # times the trial's own: on the pocket pair 2.5, 5 and 10 are as good (docs/LOG.md)

axes = {
    "pocket": dict(soft_tokens=[8, 16], seed=[1234]),
    "small": dict(soft_tokens=[16], seed=[1234]),
    "full": dict(soft_tokens=[16, 64], seed=[1234]),
}


def by_muon(trial: Trial) -> Trial:
    """The same trial with its maps moved by Muon; the name stays."""
    return replace(trial, muon=Muon(learning_rate=RATE * trial.learning_rate))


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    of_size = compression.trial(base, soft_tokens=soft_tokens, seed=seed)
    return replace(by_muon(of_size), name=of_size.name.replace("stable", "muon"))
