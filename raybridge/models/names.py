"""What the name of a model leads to: a directory, a GGUF file, a hub id or a model that ships with the package."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import AutoConfig

import raybridge
from raybridge.errors import unknown
from raybridge.models import byte_lm, files, gguf

POCKET = Path(raybridge.__file__).parent / "pocket"
POCKET_MODELS = ("pocket:source", "pocket:target")


def place(name: str) -> str:
    """Where a model name leads: a directory, a GGUF file or a hub id. Refuses what is not there."""
    if name.startswith("pocket:"):
        if name not in POCKET_MODELS:
            raise unknown("pocket model", name, POCKET_MODELS)
        return str(POCKET / name.removeprefix("pocket:"))
    mapped = dict(_mapped_models()).get(name, name)
    looks_local = mapped != name or gguf.is_named(mapped) or mapped.startswith((".", "/", "~"))
    path = Path(mapped).expanduser()
    if path.exists():
        return str(path)
    if looks_local or mapped.count("/") != 1:
        raise unknown(
            "model",
            mapped,
            [*POCKET_MODELS, byte_lm.NAME, *dict(_mapped_models())],
            where="a model is a hub id (org/name), a directory, a .gguf file",
        )
    return mapped


def _mapped_models() -> list[tuple[str, str]]:
    """The pairs of RAYBRIDGE_MODELS, written as id=directory,id=directory."""
    pairs = [pair for pair in os.environ.get("RAYBRIDGE_MODELS", "").split(",") if pair.strip()]
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"RAYBRIDGE_MODELS: {pair!r} is not of the form id=directory")
    return [(name.strip(), place.strip()) for name, _, place in (pair.partition("=") for pair in pairs)]


def check(name: str) -> None:
    """Refuse a model that is not there, without loading its weights."""
    if name == byte_lm.NAME:
        return
    where = place(name)
    if gguf.is_named(where):
        gguf.check_is_one(name, where)
    else:
        try:
            AutoConfig.from_pretrained(where)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model {name!r} cannot be read from {where}: {str(error).splitlines()[0]} "
                "(valid: a hub id that is reachable or cached, a directory, a .gguf file, pocket:source, pocket:target; "
                "RAYBRIDGE_MODELS=id=directory maps a hub id to a directory)"
            ) from error
        files.check_complete(name, where)


def width_of(name: str) -> int:
    """Size of an embedding of a model, without loading its weights."""
    where, options = gguf.place_and_options(place(name))
    config = AutoConfig.from_pretrained(where, **options)
    return int(config.get_text_config().hidden_size)
