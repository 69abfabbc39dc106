"""A complete trial whose soft tokens depend on the question, as a sweep leaves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from bundled import PROVENANCE
from opened import ENDED
from safetensors.torch import save

from raybridge.evaluation.identity import sealed
from raybridge.evaluation.models import Models
from raybridge.results import Results, TrialRun
from raybridge.scales import POCKET
from raybridge.translators.weights import FILE, copy_of, with_checksums

QUESTIONS = [
    "A farm has 5 cows and 4 times as many hens. How many animals are there?",
    "How many is 17 times 3?",
    "Ana packs 3 crates of 12 pears and gives 4 pears away. How many pears does she have?",
]
SCORED = {"bridged": (0.5, 0.4, 0.6, 0.25), "shuffled": (0.1, 0.05, 0.2, 2.5), "zero": (0.0, 0.0, 0.04, 3.0)}


def finished(root: Path, **changes: object) -> TrialRun:
    """An untrained translator, its gates open, with a result that was made up."""
    torch.manual_seed(0)
    small = replace(POCKET.trial.translator, soft_tokens=8, width=64, depth=2, heads=2)
    trial = replace(POCKET.trial, name="small_8tok", translator=small, steps=8, warmup=2, batch=4, eval_every=4)
    trial = sealed(replace(trial, dev_problems=4, test_problems=4, **changes), device="cpu")
    models = Models("cpu")
    source, target = models.load(trial.source), models.load(trial.target)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms)
    for name, p in module.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.ones_(p)
    results = Results(root)
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance=PROVENANCE)
    run.write_checkpoint(4, with_checksums({FILE: save(copy_of(module))}))
    test = {
        arm: {"strict": dict(zip(("accuracy", "low", "high", "nll"), told, strict=True)) | {"n": 200}}
        for arm, told in SCORED.items()
    }
    run.finish(ENDED | {"name": trial.name, "fingerprint": trial.fingerprint, "steps": 8, "test": test})
    return run
