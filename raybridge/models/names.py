"""What the name of a model leads to: a directory, a GGUF file, a hub id or a model that ships with the package.

Behind it may stand in how many bits its weights are held (`bits`); its files are the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

import raybridge
from raybridge.data import UnreachableError, from_here
from raybridge.errors import nearest, reason_of, unknown
from raybridge.models import bits, byte_lm, files, gguf
from raybridge.models.shape import positions_of

POCKET = Path(raybridge.__file__).parent / "pocket"
POCKET_MODELS = ("pocket:source", "pocket:target")


def place(name: str) -> str:
    """Where a model name leads: a directory, a GGUF file or a hub id. Refuses what is not there."""
    name, _ = bits.parted(name)
    if name.startswith("pocket:"):
        if name not in POCKET_MODELS:
            raise unknown("pocket model", name, POCKET_MODELS)
        return str(POCKET / name.removeprefix("pocket:"))
    mapped = dict(_mapped_models()).get(name, name)
    path = from_here(mapped)
    if path.exists():
        return str(path)
    if mapped != name:
        raise _astray(name, mapped)
    if gguf.is_named(mapped) or mapped.startswith((".", "/", "~")) or mapped.count("/") != 1:
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
        if not pair.partition("=")[2].strip():
            raise ValueError(f"RAYBRIDGE_MODELS: {pair!r} is not of the form id=directory")
    return [(name.strip(), place.strip()) for name, _, place in (pair.partition("=") for pair in pairs)]


def _astray(name: str, mapped: str) -> ValueError:
    """The refusal of a place that RAYBRIDGE_MODELS maps a model to, where nothing is. A model's name is no place."""
    if mapped in POCKET_MODELS:
        near: str | None = str(POCKET / mapped.removeprefix("pocket:"))
    else:
        path = from_here(mapped)
        near = nearest(path.name, (one.name for one in path.parent.iterdir())) if path.parent.is_dir() else None
        near = str(Path(mapped).with_name(near)) if near else None
    sentence = f"RAYBRIDGE_MODELS maps {name!r} to an unknown model {mapped!r}; valid: a directory that is there, a .gguf file"
    return ValueError(sentence + (f"; did you mean {near!r}?" if near else ""))


def check(name: str) -> None:
    """Refuse a model that is not there, without loading its weights. UnreachableError where the hub may have it."""
    if name == byte_lm.NAME:
        return
    if bits.parted(name)[0] == byte_lm.NAME:
        raise ValueError(f"model {name!r}: `{byte_lm.NAME}` has nothing to pack; name it without its bits")
    where, packed = place(name), bits.parted(name)[1] != bits.WHOLE
    if gguf.is_named(where):
        gguf.check_is_one(name, where)
        if packed:
            raise ValueError(f"model {name!r}: the weights of a GGUF file are read whole; {where} can be held in no fewer bits")
        return
    config = config_of(name)
    files.check_complete(name, where)
    if packed:
        bits.check(name, config)


def config_of(name: str) -> PreTrainedConfig:
    """What a model's files say of its shape."""
    if name == byte_lm.NAME:
        return byte_lm.model().config
    where = place(name)
    path = Path(where) / "config.json" if Path(where).is_dir() else Path(where)
    try:
        return _config(where, path.stat().st_mtime_ns if path.exists() else 0)
    except (OSError, ValueError) as error:
        kind = ValueError if Path(where).exists() else UnreachableError
        raise kind(
            f"model {name!r} cannot be read from {where}: {reason_of(error)} "
            "(valid: a hub id that is reachable or cached, a directory, a .gguf file, pocket:source, pocket:target; "
            "RAYBRIDGE_MODELS=id=directory maps a hub id to a directory)"
        ) from error


@lru_cache(maxsize=32)
def _config(where: str, changed: int) -> PreTrainedConfig:
    """A config, read again when its file has changed: a GGUF file's takes seconds."""
    path, options = gguf.place_and_options(where)
    return AutoConfig.from_pretrained(path, trust_remote_code=False, **options)  # else transformers asks on the terminal


def width_of(name: str) -> int:
    """Size of an embedding of a model, without loading its weights."""
    return int(config_of(name).get_text_config().hidden_size)


def check_layers(name: str, layers: Sequence[int], *, field: str, last: bool = True) -> None:
    """Refuse numbers of hidden states that a model does not have. last: whether the one behind its last layer may be named."""
    depth = int(config_of(name).get_text_config().num_hidden_layers)
    valid = range(depth + 1 if last else depth)
    if beyond := [layer for layer in layers if layer not in valid]:
        raise ValueError(f"{field} names {beyond[0]}, but the hidden states of {name} are 0..{valid[-1]} ({depth} layers)")


def check_positions(name: str, tokens: int, *, of: str) -> None:
    """Refuse more tokens than a model has positions. of: what they are."""
    positions = positions_of(config_of(name))
    if positions is not None and tokens > positions:
        raise ValueError(f"{of} do not fit in the {positions:,} positions of {name}")
