"""Configs as data: one canonical form, one fingerprint, and the way back from JSON.

A config is a frozen dataclass of numbers, strings, booleans, None, tuples and other configs. Anything else is refused,
because a fingerprint over something that has no canonical form would be no identity.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import sys
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from raybridge.errors import nearest

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
CONFIG_PACKAGES = ("raybridge", "evaluators")  # only their classes may be named by a config that is read back from disk
DEEPEST = 20  # levels of a config that is read back: no trial has half of them
ANNOTATIONS: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()  # by class: texts that are slow to compile
SEEDS = 2**32  # seeds lie below it: every generator that is seeded takes these


def typed(config: Any) -> None:
    """Hold the fields of a frozen config, and of the configs in it, to their annotations: first in every `__post_init__`.

    A whole number that is written as a float becomes an int, an int where a float is asked for a float, and a list a tuple,
    so that equal values are one identity. A default is as its author wrote it. ValueError names field, value and what is valid.
    """
    annotations = ANNOTATIONS.get(cls := type(config)) or ANNOTATIONS.setdefault(cls, get_type_hints(cls))
    for one in fields(config):
        value = getattr(config, one.name)
        if one.default is not MISSING and value is one.default:
            continue
        try:
            fitting = _fitting(value, annotations[one.name])
        except _Misfit as misfit:
            raise ValueError(f"{type(config).__name__}: {one.name} must be {misfit}, not {_shown(value)}") from None
        if fitting is not value:
            object.__setattr__(config, one.name, fitting)


def check_seed(where: str, seed: int) -> None:
    """Refuse a seed that some generator would not take."""
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{where} must lie in 0..{SEEDS - 1} (2^32 - 1), not {seed}")


class _Misfit(Exception):  # noqa: N818 (it says what a value would have to be)
    """A value is not of its annotation; what is valid, in words."""


def _fitting(value: Any, kind: Any) -> Any:
    """The value as its annotation has it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(value, parts)
    if origin is Literal:
        if value in parts and type(value) is type(parts[parts.index(value)]):
            return value
        near = nearest(value, parts)
        raise _Misfit(f"one of {', '.join(map(repr, parts))}" + (f" (did you mean {near!r}?)" if near else ""))
    if origin is tuple and len(parts) == 2 and parts[1] is Ellipsis:
        if not isinstance(value, tuple | list):
            raise _Misfit(f"a tuple, each item {_called(parts[0])}")
        try:
            return tuple(_fitting(item, parts[0]) for item in value)
        except _Misfit as misfit:
            raise _Misfit(f"a tuple, each item {misfit}") from None
    if kind in PLAIN:
        return _plain(value, kind)
    if kind is types.NoneType:
        if value is not None:
            raise _Misfit("None")
    elif isinstance(kind, type) and kind is not object:
        _check_instance(value, kind)
    return value


def _one_of(value: Any, kinds: Sequence[Any]) -> Any:
    """The value as the first of these that it fits."""
    valid = []
    for kind in kinds:
        try:
            return _fitting(value, kind)
        except _Misfit as misfit:
            valid.append(str(misfit))
    raise _Misfit(" or ".join(valid))


PLAIN = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text"}


def _plain(value: Any, kind: type) -> Any:
    if kind in (bool, str) and isinstance(value, kind):
        return value
    number = not isinstance(value, bool)
    if kind is int and number and (isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())):
        return value if type(value) is int else int(value)
    if kind is float and number and isinstance(value, Real) and math.isfinite(value):
        return value if type(value) is float else float(value)
    raise _Misfit(PLAIN[kind])


def _check_instance(value: Any, kind: type) -> None:
    """Refuse what is no instance of a class, or lacks what a protocol asks for; hold a config in it to its own annotations."""
    is_protocol = getattr(kind, "_is_protocol", False)
    missing = isinstance(value, type) or (lacking(value, kind) if is_protocol else not isinstance(value, kind))
    if missing:
        without = f" (it has no {', '.join(missing)})" if isinstance(missing, list) and is_dataclass(value) else ""
        raise _Misfit(_called(kind) + without)
    if is_dataclass(value):
        typed(value)


def _called(kind: Any) -> str:
    """What a value of a kind is called in a sentence."""
    if kind in PLAIN:
        return PLAIN[kind]
    name = str(getattr(kind, "__name__", kind))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _shown(value: Any) -> str:
    return f"the class {value.__name__} itself (write {value.__name__}(...))" if isinstance(value, type) else repr(value)


def lacking(candidate: Any, protocol: type) -> list[str]:
    """What a candidate would have to define to be what a protocol asks for, in the protocol's order."""
    asked = dict.fromkeys([*protocol.__annotations__, *(name for name in vars(protocol) if not name.startswith("_"))])
    nothing = object()
    return [name for name in asked if inspect.getattr_static(candidate, name, nothing) is nothing]


def later(default: Any) -> Any:
    """A field that a config got after results of it were kept; `default` is how it behaved before.

    At that value it stands in no identity and in no trial.json, so that what was computed before is the same trial still.
    """
    return field(default=default, metadata={"later": True})


def resolve(config: Any) -> Json:
    """Return `config` as plain JSON: dataclasses carry class, VERSION and fields, but for `later` ones that are not used."""
    if is_dataclass(config) and not isinstance(config, type):
        cls = type(config)
        resolved: dict[str, Json] = {"class": f"{cls.__module__}:{cls.__qualname__}"}
        if kind_of(cls) != cls.__name__:
            resolved["KIND"] = kind_of(cls)
        if hasattr(cls, "VERSION"):
            resolved["VERSION"] = resolve(cls.VERSION)
        for one in fields(config):
            value = getattr(config, one.name)
            if not (one.metadata.get("later") and value == one.default):
                resolved[one.name] = resolve(value)
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


def kind_of(cls: type) -> str:
    """What identity knows a class by, wherever it stands: its name, or its KIND if that is another."""
    return str(vars(cls).get("KIND", cls.__name__))


def identified(plain: Json, *, without: Collection[str] = ()) -> Json:
    """What `resolve` returned as identity knows it: the kind of each class, not its place. without: names that are left out."""
    if isinstance(plain, list):
        return [identified(item, without=without) for item in plain]
    if not isinstance(plain, dict):
        return plain
    told = {
        name: identified(value, without=without) for name, value in plain.items() if name not in ("class", "KIND", *without)
    }
    return {"kind": kind_in(plain), **told} if "class" in plain else told


def kind_in(plain: Mapping[str, Any]) -> str:
    """The kind of a resolved config's class; empty for one that has no class."""
    return str(plain.get("KIND", str(plain.get("class", "")).rpartition(":")[2].rpartition(".")[2]))


def fingerprint(config: Any) -> str:
    """SHA-256 over the canonical JSON of a config, or of JSON that `resolve` or `identified` returned."""
    plain = resolve(config) if is_dataclass(config) else config
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def identity(experiment: Any, *, but: Collection[str] = ("name",)) -> str:
    """Fingerprint of an experiment: of its config but for the name, which is a label, and where its classes stand."""
    plain = resolve(experiment)
    assert isinstance(plain, dict)
    check_kinds(plain)
    return fingerprint(identified({key: value for key, value in plain.items() if key not in but}))


def check_kinds(plain: Json) -> None:
    """Refuse classes of one name in a resolved config, and one that is called as a class of ours: identity is by name."""
    places: dict[str, str] = {}
    for kind, place in _places(plain):
        module = place.partition(":")[0]
        other = places.setdefault(kind, place)
        if other == place and module.partition(".")[0] not in CONFIG_PACKAGES:
            ours = [name for name in list(sys.modules) if name.partition(".")[0] in CONFIG_PACKAGES and name != module]
            same = [name for name in ours if getattr(vars(sys.modules[name]).get(kind), "__module__", None) == name]
            other = f"{same[0]}:{kind}" if same else place
        if other != place:
            raise ValueError(
                f"two configs are called {kind!r}, {other} and {place}: give one of them a KIND, its name in identity"
            )


def _places(plain: Json) -> Iterator[tuple[str, str]]:
    """(kind, place) of every class in a resolved config."""
    if isinstance(plain, dict) and "class" in plain:
        yield kind_in(plain), str(plain["class"])
    if isinstance(plain, dict | list):
        for part in plain.values() if isinstance(plain, dict) else plain:
            yield from _places(part)


def packages_of(config: Any) -> tuple[str, ...]:
    """The packages whose classes a built config consists of, the usual ones first: what `rebuild` of it needs."""
    if isinstance(config, tuple | list):
        found = [package for item in config for package in packages_of(item)]
    elif is_dataclass(config) and not isinstance(config, type):
        parts = [getattr(config, one.name) for one in fields(config)]
        found = [type(config).__module__.partition(".")[0], *packages_of(parts)]
    else:
        found = []
    return tuple(dict.fromkeys([*CONFIG_PACKAGES, *found]))


def rebuild(plain: Json, packages: Sequence[str] = CONFIG_PACKAGES, *, deep: int = DEEPEST) -> Any:
    """Inverse of `resolve`. Refuses what is no config, classes outside of these packages, and configs of another VERSION.

    packages: more than the usual may be named only by who built the config (`packages_of`), never by what is on disk.
    """
    if deep < 0:
        raise ValueError(f"a config is nested deeper than {DEEPEST} levels")
    if isinstance(plain, list):
        return tuple(rebuild(item, packages, deep=deep - 1) for item in plain)
    if not isinstance(plain, dict):
        return plain
    cls = _class_of(plain, packages)
    version = plain.get("VERSION")
    if version != getattr(cls, "VERSION", None):
        raise ValueError(
            f"{cls.__name__} was recorded at version {version}, this raybridge has version {getattr(cls, 'VERSION', None)}"
        )
    given = {key: value for key, value in plain.items() if key not in ("class", "KIND", "VERSION")}
    known = {one.name for one in fields(cls)}
    unused = {one.name for one in fields(cls) if one.metadata.get("later")} - set(given)
    if set(given) != known - unused:
        odd = sorted(set(given) ^ (known - unused))
        raise ValueError(f"{cls.__name__} was recorded with fields {odd} that this raybridge does not share")
    return cls(**{key: rebuild(value, packages, deep=deep - 1) for key, value in given.items()})


def _class_of(plain: Mapping[str, Any], packages: Sequence[str]) -> Any:
    """The class that a resolved config names: a config of these packages."""
    named = plain.get("class")
    if not isinstance(named, str):
        raise ValueError(f"a config names its class as 'module:Name', not {named!r}")
    module, _, name = named.partition(":")
    package = module.partition(".")[0]
    if package not in packages:
        raise ValueError(f"config of class {named!r} is not from {' or '.join(packages)}")
    try:
        cls = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # a module that is imported may raise anything
        raise ValueError(f"config of class {named!r}: {str(error) or type(error).__name__}") from error
    if not isinstance(cls, type) or cls.__module__ != module:
        raise ValueError(f"config of class {named!r}: there is no such config in this version of raybridge")
    says_its_version = package not in CONFIG_PACKAGES or hasattr(cls, "VERSION")
    if not (is_dataclass(cls) and _frozen(cls) and says_its_version):
        raise ValueError(f"config of class {named!r}: {name} is no config (a frozen keyword-only dataclass with a VERSION)")
    return cls


def _frozen(cls: Any) -> bool:
    """Whether a dataclass is frozen and keyword-only."""
    return bool(cls.__dataclass_params__.frozen) and all(one.kw_only for one in fields(cls))
