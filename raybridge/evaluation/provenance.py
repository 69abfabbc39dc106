"""Where numbers come from: commit, versions, models, prompts, exemplars, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

import torch

from raybridge import HOUSE
from raybridge.data import Evaluator, origin
from raybridge.evaluation.benchmarks import every_problem, exemplars_of
from raybridge.evaluation.identity import contents_of_model
from raybridge.models.identity import model_identity, revision_of
from raybridge.results.contents import ModelContents
from raybridge.trial import Trial

PACKAGES = (
    *("raybridge", "torch", "transformers", "tokenizers", "gguf", "safetensors"),
    *("ray", "datasets", "numpy", "pandas", "pyarrow", "scipy"),
)
COMMIT = "RAYBRIDGE_COMMIT"  # as whoever starts workers tells it


def provenance_of(trial: Trial) -> dict[str, Any]:
    """What provenance.json holds."""
    contents = trial.contents
    known = {trial.source: contents.source, trial.target: contents.target} if contents else {}
    every_problem(trial.evaluator, "dev")  # to have read it tells which revision of the hub it is of
    if trial.mixture:
        trial.mixture.pools(trial.evaluator)
    return conditions(trial.source, trial.target, known=known) | {"prompt": prompt_identity(trial.evaluator)}


def conditions(*models: str, known: Mapping[str, ModelContents] = MappingProxyType({})) -> dict[str, Any]:
    """What a number comes from besides its question: commit, versions, the models' files, where the data are, the machine.

    known: contents of models that somebody has looked at already.
    """
    return {
        "commit": commit(),
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "models": {name: model_told(name, known.get(name)) for name in sorted(set(models))},
        "data": "RAYBRIDGE_DATA" if os.environ.get("RAYBRIDGE_DATA") else None,
        "datasets": dict(sorted(origin.REVISIONS.items())) or None,  # beside a folder too: it may lack a benchmark
        "hardware": hardware(),
    }


def commit() -> dict[str, Any]:
    """The commit that raybridge runs from and whether tracked files differ from it; None outside a clone."""
    if told := os.environ.get(COMMIT):
        name, _, dirty = told.partition(" ")
        return {"id": name, "dirty": bool(dirty)}
    return _commit_of_clone()


def commit_to_tell() -> dict[str, str]:
    """The commit for the environment of processes elsewhere, whose copy of this code has no history; empty outside a clone."""
    here = commit()
    return {COMMIT: f"{here['id']} dirty" if here["dirty"] else here["id"]} if here["id"] else {}


@cache
def _commit_of_clone() -> dict[str, Any]:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(HOUSE), *words], check=True, capture_output=True, text=True).stdout.strip()

    try:
        return {"id": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"id": None, "dirty": None}


def model_told(name: str, contents: ModelContents | None = None) -> dict[str, Any]:
    """Digests of a model's weights, tokenizer and chat template, and the hub's commit where it comes from there."""
    seen = contents or contents_of_model(model_identity(name))
    revision = revision_of(name)
    return asdict(seen) | ({"revision": revision} if revision else {})


def prompt_identity(evaluator: Evaluator) -> dict[str, Any]:
    """The template's hash and the exemplars' ids."""
    template = "\0".join([evaluator.instruction, evaluator.before, evaluator.after, *evaluator.stop])
    return {
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "exemplars": [problem.id for problem in exemplars_of(evaluator)],
    }


def prompt_of(evaluator: Evaluator) -> dict[str, Any]:
    """What identifies a benchmark's prompts: hashes of the template and of the exemplars, and the exemplars' ids."""
    shots = "\0".join(f"{shot.question}\0{shot.rationale}" for shot in exemplars_of(evaluator))
    return {**prompt_identity(evaluator), "exemplars_sha256": hashlib.sha256(shots.encode()).hexdigest()}


def hardware() -> dict[str, Any]:
    """The machine's processor, cores and GPUs."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "cores": os.cpu_count(), "gpus": gpus}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
