"""A sweep file as data: load it, expand its axes into trials, and refuse what cannot run, before anything starts."""

from __future__ import annotations

import inspect
import itertools
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from raybridge import HOUSE, module_of, registered
from raybridge.config import lacking, packages_of, rebuild
from raybridge.errors import unknown
from raybridge.results import Results
from raybridge.results.store import check_name
from raybridge.scales import Scale
from raybridge.trial import Workload

FOLDER = HOUSE / "sweeps"
REHEARSED = (0.0, 0.5, 1.0)  # accuracies that a follow_up is tried with
OWN = "sweeps"  # the package of sweep files, which workers never import


class Result(dict[str, Any]):
    """A trial's result.json as `follow_up` sees it, or an object in it: a key that it lacks is told with those that it has."""

    def __missing__(self, key: str) -> Any:
        raise unknown("key of a result", key, self)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A loaded sweep file: the question it asks (its docstring), its axes by scale, and how they become a trial.

    follow_up: what it asks for next, from (trial, result.json) of each that has ended; docs/schema.md has the keys. It is tried
    with made-up results before anything runs. named: names or patterns of the trials that are asked for; none for all.
    """

    path: Path
    question: str
    axes: Mapping[str, Mapping[str, Sequence[Any]]]
    trial: Callable[..., Workload]
    follow_up: Callable[[Sequence[tuple[Any, Mapping[str, Any]]]], list[Workload]] | None
    named: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    def only(self, named: Sequence[str]) -> Sweep:
        """Some trials of the sweep. What comes next is not asked then: it is a question to all of them."""
        return replace(self, named=tuple(named), follow_up=None) if named else self

    def trials(self, scale: Scale) -> list[Workload]:
        """The trials of the sweep that are asked for at a scale; all are checked."""
        if scale.name not in self.axes:
            raise unknown("scale", scale.name, self.axes, where=f"{self.path} has no axes for it")
        axes = self.axes[scale.name]
        accepted = [name for name in inspect.signature(self.trial).parameters if name != "base"]
        for axis, values in axes.items():
            if axis not in accepted:
                raise unknown("axis", axis, accepted, where=f"{self.path}: trial() does not take it")
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise ValueError(f"{self.path}: axis {axis!r} must be a list of at least one value, not {values!r}")
        combinations = itertools.product(*axes.values())
        every = distinct([self._trial(scale, dict(zip(axes, values, strict=True))) for values in combinations], str(self.path))
        for one in self.named:
            if not any(fnmatchcase(trial.name, one) for trial in every):
                raise unknown("trial", one, [trial.name for trial in every], where=str(self.path))
        return [trial for trial in every if any(fnmatchcase(trial.name, one) for one in self.named or ("*",))]

    def further(self, trials: Sequence[Workload], results: Results) -> list[Workload]:
        """What the sweep asks for next, checked, once all of its trials have ended; none while one of them has no result."""
        if self.follow_up is None:
            return []
        runs = [results.find(trial.fingerprint) for trial in trials]
        ended = [(trial, run.result()) for trial, run in zip(trials, runs, strict=True) if run is not None and run.complete]
        if len(ended) < len(trials):
            return []
        return self._asked([(trial, result or {}) for trial, result in ended])

    def rehearse(self, trials: Sequence[Workload]) -> None:
        """Try `follow_up` before anything runs, with made-up results: a mistake in it should not wait for real ones."""
        for accuracy in REHEARSED if self.follow_up else ():
            imagined = [(trial, trial.imagined(accuracy)) for trial in trials if hasattr(trial, "imagined")]
            if len(imagined) == len(trials):
                self._asked(imagined)

    def _asked(self, ended: Sequence[tuple[Workload, Mapping[str, Any]]]) -> list[Workload]:
        """What `follow_up` asks for, checked."""
        where = f"{self.path}, follow_up()"
        assert self.follow_up is not None
        try:
            asked = self.follow_up([(trial, Result(result)) for trial, result in ended])
        except MISTAKES as error:
            raise refusal(where, error, self.trial.__globals__) from error
        if not isinstance(asked, list):
            raise ValueError(f"{where} must return a list of trials, not {type(asked).__name__}")
        distinct([*(trial for trial, _ in ended), *asked], str(self.path))
        return [checked(trial, where) for trial in asked]

    def _trial(self, scale: Scale, values: Mapping[str, Any]) -> Workload:
        where = f"{self.path}, trial({', '.join(f'{name}={value!r}' for name, value in values.items())})"
        try:
            trial = self.trial(scale.trial, **values)
        except MISTAKES as error:
            base = scale.trial
            known = {type(part).__name__: type(part) for part in (base, base.translator, base.stopping, *base.losses)}
            raise refusal(where, error, known | self.trial.__globals__) from error
        return checked(trial, where)


def checked(trial: Any, where: str) -> Workload:
    """The trial, if it is one and comes back from JSON: a worker gets it as JSON and never sees the sweep file."""
    if missing := lacking(trial, Workload):
        raise ValueError(
            f"{where} must return a Trial, not {type(trial).__name__} (another workload would define {', '.join(missing)})"
        )
    try:
        check_name(trial.name)
        packages = [package for package in packages_of(trial) if package != OWN]
        assert rebuild(trial.resolved(), packages) == trial
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return trial


# What a slip of the pen in a sweep file raises.
MISTAKES = (ImportError, NameError, SyntaxError, AttributeError, TypeError, KeyError, ValueError)


def refusal(where: str, error: Exception, known: Mapping[str, Any]) -> ValueError:
    """A mistake in a sweep file as one sentence, with the nearest match where a name is wrong. known: names in its sight."""
    if isinstance(error, NameError) and error.name:
        return unknown("name", error.name, sorted(name for name in known if not name.startswith("_")), where)
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        return unknown("attribute", error.name, [name for name in dir(error.obj) if not name.startswith("_")], where)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package, _, module = error.name.rpartition(".")
        paths = getattr(sys.modules.get(package), "__path__", [])
        return unknown("module", module, [found.name for found in pkgutil.iter_modules(paths)], f"{where}: import {error.name}")
    if isinstance(error, ImportError) and (match := re.match(r"cannot import name '(\w+)'", str(error))):
        names = (
            [name for name in vars(sys.modules[error.name]) if not name.startswith("_")] if error.name in sys.modules else []
        )
        return unknown("name", match[1], names, f"{where}: from {error.name} import {match[1]}")
    if isinstance(error, TypeError) and (
        match := re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    ):
        config = known.get(match[1])
        return unknown(
            "field", match[2], [f.name for f in fields(config)] if is_dataclass(config) else [], f"{where}: {match[1]}"
        )
    if isinstance(error, KeyError):
        return ValueError(f"{where}: no entry {error}")
    return ValueError(f"{where}: {error}")


def load(path: Path) -> Sweep:
    """Load a sweep file, or the one of this name that comes with raybridge."""
    shipped = FOLDER / f"{path.stem}.py"
    if not path.is_file() and str(path.parent) in (".", FOLDER.name) and path.suffix in ("", ".py") and shipped.is_file():
        path = shipped
    if not path.is_file():
        near = [*files_of(path.parent), *(Path(FOLDER.name, file.name) for file in files_of(FOLDER))]
        raise unknown("sweep file", path, dict.fromkeys(near))
    if path.suffix != ".py":
        raise ValueError(f"{path} is no sweep file: a sweep is Python, and its name ends in .py")
    module: Any = module_of(path, OWN)
    with registered(module):
        try:
            module.__loader__.exec_module(module)
        except MISTAKES as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            raise refusal(f"{path}, line {lines[-1]}" if lines else str(path), error, vars(module)) from error
        for name in ("axes", "trial"):
            if not hasattr(module, name):
                raise ValueError(f"{path} defines no {name!r}; a sweep file has `axes` (by scale) and `trial(base, ...)`")
        if not isinstance(module.axes, Mapping) or not all(isinstance(axes, Mapping) for axes in module.axes.values()):
            raise ValueError(f"{path}: `axes` must map scales to axes, such as {{'pocket': dict(soft_tokens=[8, 16])}}")
    return Sweep(
        path=path,
        question=(module.__doc__ or "").strip(),
        axes=module.axes,
        trial=module.trial,
        follow_up=getattr(module, "follow_up", None),
    )


def files_of(folder: Path) -> list[Path]:
    """The sweep files in a folder, by name."""
    return sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")


def distinct(trials: Sequence[Workload], where: str) -> list[Workload]:
    """Return the trials if no two have the same name or the same config."""
    names: dict[str, Workload] = {}
    prints: dict[str, Workload] = {}
    for trial in trials:
        if trial.name in names:
            raise ValueError(f"{where}: two trials have the name {trial.name!r}; put what differs into the name")
        twin = prints.get(trial.fingerprint)
        if twin is not None:
            raise ValueError(
                f"{where}: trials {twin.name!r} and {trial.name!r} differ only in name: they would be the same run"
            )
        names[trial.name] = prints[trial.fingerprint] = trial
    return list(trials)
