"""A bridge in the layout of the hub: config.json, model.safetensors, result.json, and a model card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from safetensors.torch import save

from raybridge.config import rebuild, resolve
from raybridge.errors import reason_of
from raybridge.evaluation.bundle.again import fitting
from raybridge.interface.card import card_of
from raybridge.interface.kept import Kept
from raybridge.models import names
from raybridge.results.bundle import RESULT, check_json
from raybridge.results.files import read_json, write_bytes
from raybridge.trial import Trial

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MODEL_TYPE = "raybridge_translator"
LAYOUT = 1  # of these files; raised when they are laid out otherwise


def is_saved(folder: Path) -> bool:
    """Whether a folder holds a saved bridge."""
    file = folder / CONFIG
    return file.is_file() and b'"' + MODEL_TYPE.encode() + b'"' in file.read_bytes()


def save_pretrained(kept: Kept, folder: Path) -> None:
    """Write a bridge into a folder. Models are named and not included; one that is a path here is named by its last part."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not is_saved(folder):
        raise ValueError(f"{folder} is there and holds something else; name a folder that is new, empty, or of a saved bridge")
    trial = replace(kept.trial, source=told(kept.trial.source), target=told(kept.trial.target))
    config = {
        "model_type": MODEL_TYPE,
        "library_name": "raybridge",
        "layout": LAYOUT,
        "name": kept.name,
        "fingerprint": kept.trial.fingerprint,
        "step": kept.step,
        "trial": resolve(trial),
    }
    write_bytes(folder / WEIGHTS, save({name: weight.contiguous() for name, weight in kept.weights.items()}))
    write_bytes(folder / RESULT, _json(dict(kept.result)))
    write_bytes(folder / CARD, card_of(replace(kept, trial=trial)).encode())
    write_bytes(folder / CONFIG, _json(config))  # last: its presence means that the others are there


def read_saved(folder: Path) -> Kept:
    """A bridge that was saved. It may come from elsewhere: nothing in it names code, and weights must fit its config."""
    config = read_json(folder / CONFIG)
    result = read_json(folder / RESULT) if (folder / RESULT).is_file() else {}
    for name, told_ in ((CONFIG, config), (RESULT, result)):
        check_json(told_, str(folder / name))
    where = folder / CONFIG
    if config.get("layout") != LAYOUT:
        raise ValueError(f"{where}: layout is {config.get('layout')!r}; this raybridge reads {LAYOUT}")
    if type(config.get("step")) is not int or type(config.get("name")) is not str:
        raise ValueError(f"{where}: step must be a whole number and name text")
    try:
        trial = rebuild(config.get("trial"))
    except Exception as error:  # a config from elsewhere: each class checks its fields in its own way
        raise ValueError(f"{where}: its trial cannot be built here: {reason_of(error)}") from None
    if not isinstance(trial, Trial):
        raise ValueError(f"{where}: its trial is none")
    if trial.contents is not None and trial.fingerprint != config.get("fingerprint"):
        raise ValueError(f"{where}: its trial has the fingerprint {trial.fingerprint[:8]}, not the one that it tells")
    try:
        weights = fitting(folder / WEIGHTS, trial)
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None
    return Kept(name=config["name"], trial=trial, step=config["step"], weights=weights, result=result)


def push(folder: Path, repository: str, *, private: bool | None, token: str | None, message: str) -> str:
    """Upload a saved bridge to the hub, where the repository is made if there is none; the URL of the commit."""
    hub = HfApi(token=token)
    hub.create_repo(repository, private=private, exist_ok=True, repo_type="model")
    done = hub.upload_folder(repo_id=repository, folder_path=folder, repo_type="model", commit_message=message)
    return str(done.commit_url)


def told(model: str) -> str:
    """A model's name for others: a path of this machine says nothing to them."""
    if model in names.POCKET_MODELS or not Path(names.place(model)).exists():
        return model
    looks_local = model.startswith((".", "/", "~")) or Path(model).exists()
    return Path(model).name if looks_local else model


def _json(plain: Any) -> bytes:
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
