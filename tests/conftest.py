"""What tests are given: the pocket pair, a trial of a few steps, made-up results and records."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
import torch
from earlier import LOG
from hypothesis import settings
from opened import opened

from raybridge.evaluation.models import Models
from raybridge.models import lm
from raybridge.plots import Runs
from raybridge.results import Results, TrialRun
from raybridge.scales import POCKET
from raybridge.training.batches import Batches
from raybridge.translators.weights import copy_of
from raybridge.trial import Trial

settings.register_profile("untimed", deadline=None)  # a slow machine is no defect
settings.load_profile("untimed")
torch.set_num_threads(1)  # fixtures of a session or module come before what sets it for a test


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected stays until the end: nobody looks for garbage in it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def source() -> lm.FrozenLM:
    return lm.load("pocket:source", device="cpu")


@pytest.fixture(scope="session")
def target() -> lm.FrozenLM:
    return lm.load("pocket:target", device="cpu")


@pytest.fixture(scope="session")
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
    return copy_of(module)


@pytest.fixture
def batches(trial, source, target):
    return Batches(trial, source, target)


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Results:
    """A compression sweep of two sizes with three seeds, the smaller of which is stopped; and a trial still running."""
    root = tmp_path_factory.mktemp("results")
    runs = [
        synthetic.trial(root, f"2_stable_s{seed}_{k}tok", soft_tokens=k, seed=seed, level=level, stopped=k == 8, n=80)
        for k, level in ((8, -1.0), (32, 1.0))
        for seed in (1234, 1235, 1236)
    ]
    synthetic.sweep(root, "compression", runs)
    synthetic.trial(root, "alone", soft_tokens=4, complete=False, n=80, steps=500)
    return Results(root)


@pytest.fixture(scope="session")
def runs(results) -> Runs:
    """Of which nobody changes anything."""
    return Runs(results)


@pytest.fixture
def run(tmp_path) -> TrialRun:
    return opened(tmp_path)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that writes a run directory: {step: rows}, and a train.log unless `log` is None."""
    monkeypatch.delenv("RAYBRIDGE_DATA", raising=False)

    def write(
        files: dict[str, list[dict]], *, name: str = "made_run", log: str | None = "", mode: str = "soft_only", used: int = 64
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for step, rows in files.items():
            (folder / f"eval_samples_step_{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if log is not None:
            (folder / "train.log").write_text(log or LOG.format(soft_tokens=64, mode=mode, used=used))
        return folder

    return write
