"""Where numbers come from: commit, versions, models, prompts, exemplars, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from raybridge import HOUSE
from raybridge.data import Evaluator
from raybridge.evaluation.prompt import exemplars_of
from raybridge.models import byte_lm, names
from raybridge.trial import Trial

PACKAGES = (
    *("raybridge", "torch", "transformers", "tokenizers", "gguf", "safetensors"),
    *("ray", "datasets", "numpy", "pandas", "pyarrow", "scipy"),
)


def provenance_of(trial: Trial) -> dict[str, Any]:
    """What provenance.json holds."""
    return conditions(trial.source, trial.target) | {"prompt": prompt_identity(trial.evaluator)}


def conditions(*models: str) -> dict[str, Any]:
    """What a number comes from besides its question: commit, versions, the models' files, where the data are, the machine."""
    return {
        "commit": commit(),
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "models": {name: model_identity(name) for name in sorted(set(models))},
        "data": os.environ.get("RAYBRIDGE_DATA") and "RAYBRIDGE_DATA",
        "hardware": hardware(),
    }


@cache
def commit() -> dict[str, Any]:
    """The commit that raybridge runs from and whether tracked files differ from it; None outside a clone."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(HOUSE), *words], check=True, capture_output=True, text=True).stdout.strip()

    try:
        return {"id": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"id": None, "dirty": None}


@cache
def model_identity(name: str) -> dict[str, Any]:
    """What identifies a model's files without reading gigabytes: names and sizes, and the hash of its config.

    Of `bytes`, which has no files, the hash of what makes it.
    """
    if name == byte_lm.NAME:
        return {"code_sha256": hashlib.sha256(Path(byte_lm.__file__).read_bytes()).hexdigest()}
    place = Path(names.place(name))
    if not place.exists():
        return {"hub": name}
    files = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
    listing = "\n".join(f"{path.name} {path.stat().st_size}" for path in files)
    config = place / "config.json"
    content = config.read_bytes() if config.exists() else b""
    return {"files_sha256": hashlib.sha256(listing.encode() + content).hexdigest()}


def prompt_identity(evaluator: Evaluator) -> dict[str, Any]:
    """The template's hash and the exemplars' ids."""
    template = "\0".join([evaluator.instruction, evaluator.before, evaluator.after, *evaluator.stop])
    return {
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "exemplars": [problem.id for problem in evaluator.exemplars()],
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
