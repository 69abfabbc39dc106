"""The pocket pair and a trial of a few steps, shared by the engine's tests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raybridge import checkpoint, lm
from raybridge.models import Models
from raybridge.scales import POCKET
from raybridge.trial import Trial


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def source() -> lm.FrozenLM:
    return lm.load("pocket:source", device="cpu")


@pytest.fixture(scope="session")
def target() -> lm.FrozenLM:
    return lm.load("pocket:target", device="cpu")


@pytest.fixture
def trial() -> Trial:
    """Twelve steps, three evaluations of eight problems."""
    return replace(
        POCKET.trial,
        name="tiny",
        translator=replace(POCKET.trial.translator, soft_tokens=8, width=64, depth=2, heads=2),
        steps=12,
        warmup=4,
        batch=8,
        eval_every=4,
        dev_problems=8,
        test_problems=8,
    )


@pytest.fixture(scope="module")
def models() -> Models:
    return Models("cpu")


@pytest.fixture
def weights(trial: Trial, models: Models) -> dict[str, torch.Tensor]:
    """An untrained translator of the trial, its gates open, so that its soft tokens depend on the question."""
    torch.manual_seed(0)
    source, target = models.load(trial.source), models.load(trial.target)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms)
    for name, p in module.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.ones_(p)
    return checkpoint.copy_of(module)
