"""How much more does a longer training of a deeper translator carry? Twice the steps and blocks of a trial, moved by Muon."""

from dataclasses import replace

from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.trial import Trial
from sweeps import compression
from sweeps.muon import by_muon

STEPS, DEPTH = 2, 2  # times those of the trial

axes = {
    "pocket": dict(soft_tokens=[8, 16], seed=[1234]),
    "small": dict(soft_tokens=[32, 16], seed=[1234]),
    "full": dict(soft_tokens=[16, 64], seed=[1234]),
}


def longer(trial: Trial) -> Trial:
    """A trial trained for longer; its name says so in front of the seed, or in the place of `stable`."""
    translator = trial.translator
    assert isinstance(translator, Bottlenecked), f"{trial.name} has no blocks"
    seed = f"_s{trial.seed}_"
    return replace(
        by_muon(trial),
        name=trial.name.replace(f"_stable{seed}", seed).replace(seed, f"_longer{seed}"),
        steps=STEPS * trial.steps,
        eval_every=STEPS * trial.eval_every,
        translator=replace(translator, depth=DEPTH * translator.depth),
    )


def trial(base: Trial, *, soft_tokens: int, seed: int) -> Trial:
    return longer(compression.trial(base, soft_tokens=soft_tokens, seed=seed))
