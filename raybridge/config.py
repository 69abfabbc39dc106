"""Configs as data: one canonical form, one fingerprint, and the way back from JSON.

A config is a frozen dataclass of numbers, strings, booleans, None, tuples and other configs. Anything else is refused,
because a fingerprint over something that has no canonical form would be no identity.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

# Only the classes of these packages may be named by a config that is read back from disk.
CONFIG_PACKAGES = ("raybridge", "evaluators")


def resolve(config: Any) -> Json:
    """Return `config` as plain JSON; dataclasses carry their class and, where they have one, their VERSION.

    WRITTEN_AS of a class is where it was when its first rows were kept: where it is now changes no key.
    """
    if is_dataclass(config) and not isinstance(config, type):
        cls = type(config)
        resolved: dict[str, Json] = {"class": getattr(cls, "WRITTEN_AS", f"{cls.__module__}:{cls.__qualname__}")}
        if hasattr(cls, "VERSION"):
            resolved["VERSION"] = resolve(cls.VERSION)
        for field in fields(config):
            resolved[field.name] = resolve(getattr(config, field.name))
        return resolved
    if config is None or isinstance(config, bool | int | str):
        return config
    if isinstance(config, float):
        if not math.isfinite(config):
            raise ValueError(f"a config cannot hold {config}: it has no canonical form")
        return config
    if isinstance(config, tuple | list):
        return [resolve(item) for item in config]
    raise ValueError(
        f"a config cannot hold {config!r} of type {type(config).__name__}; valid: numbers, strings, booleans, None, "
        "tuples and frozen dataclasses"
    )


def fingerprint(config: Any) -> str:
    """SHA-256 over the canonical JSON of a config, or of JSON that `resolve` returned."""
    plain = resolve(config) if is_dataclass(config) else config
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def identity(experiment: Any) -> str:
    """Fingerprint of an experiment: of its config but for the name, which is a label."""
    plain = resolve(experiment)
    assert isinstance(plain, dict)
    return fingerprint({key: value for key, value in plain.items() if key != "name"})


def packages_of(config: Any) -> tuple[str, ...]:
    """The packages whose classes a built config consists of, the usual ones first: what `rebuild` of it needs."""
    if isinstance(config, tuple | list):
        found = [package for item in config for package in packages_of(item)]
    elif is_dataclass(config) and not isinstance(config, type):
        parts = [getattr(config, field.name) for field in fields(config)]
        found = [type(config).__module__.partition(".")[0], *packages_of(parts)]
    else:
        found = []
    return tuple(dict.fromkeys([*CONFIG_PACKAGES, *found]))


def rebuild(plain: Json, packages: Sequence[str] = CONFIG_PACKAGES) -> Any:
    """Inverse of `resolve`. Refuses classes outside of these packages, and configs of another VERSION.

    packages: more than the usual may be named only by who built the config (`packages_of`), never by what is on disk.
    """
    if isinstance(plain, list):
        return tuple(rebuild(item, packages) for item in plain)
    if not isinstance(plain, dict):
        return plain
    module, _, name = str(plain["class"]).partition(":")
    if module.split(".")[0] not in packages:
        raise ValueError(f"config of class {plain['class']!r} is not from {' or '.join(packages)}")
    try:
        cls = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"config of class {plain['class']!r}: {error}") from error
    if not isinstance(cls, type) or not is_dataclass(cls):
        raise ValueError(f"config of class {plain['class']!r}: there is no such config in this version of raybridge")
    version = plain.get("VERSION")
    if version != getattr(cls, "VERSION", None):
        raise ValueError(
            f"{name} was recorded at version {version}, this raybridge has version {getattr(cls, 'VERSION', None)}"
        )
    values = {key: rebuild(value, packages) for key, value in plain.items() if key not in ("class", "VERSION")}
    known = {field.name for field in fields(cls)}
    if set(values) != known:
        raise ValueError(f"{name} was recorded with fields {sorted(set(values) ^ known)} that this raybridge does not share")
    return cls(**values)
