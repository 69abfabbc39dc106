"""A sweep file as data: load it, expand its axes into trials, and refuse what cannot run, before anything starts."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from raybridge.errors import unknown
from raybridge.results import Results
from raybridge.scales import Scale
from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A loaded sweep file: the question it asks (its docstring), its axes by scale, and how they become a trial."""

    path: Path
    question: str
    axes: Mapping[str, Mapping[str, Sequence[Any]]]
    trial: Callable[..., Trial]
    follow_up: Callable[[Results], list[Trial]] | None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    def trials(self, scale: Scale) -> list[Trial]:
        """Every trial of the sweep at a scale, checked."""
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
        return distinct([self._trial(scale, dict(zip(axes, values, strict=True))) for values in combinations], str(self.path))

    def _trial(self, scale: Scale, values: Mapping[str, Any]) -> Trial:
        told = ", ".join(f"{name}={value!r}" for name, value in values.items())
        try:
            trial = self.trial(scale.trial, **values)
        except TypeError as error:
            raise _bad_field(self.path, told, error, scale.trial) from error
        except ValueError as error:
            raise ValueError(f"{self.path}, trial({told}): {error}") from error
        if not isinstance(trial, Trial):
            raise ValueError(f"{self.path}, trial({told}) must return a Trial, not {type(trial).__name__}")
        return trial


def _bad_field(path: Path, told: str, error: TypeError, base: Trial) -> ValueError:
    """A TypeError of `replace` as a sentence with the nearest field."""
    words = str(error).split("'")
    if "unexpected keyword argument" in str(error) and len(words) > 1:
        valid = {field.name for part in (base, base.translator, base.stopping, *base.losses) for field in fields(part)}  # type: ignore[arg-type]
        return unknown("field", words[1], sorted(valid), where=f"{path}, trial({told})")
    return ValueError(f"{path}, trial({told}): {error}")


def load(path: Path) -> Sweep:
    """Load a sweep file."""
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.py") if file.name != "__init__.py")
        raise unknown("sweep file", path, near)
    spec = importlib.util.spec_from_file_location(f"sweeps.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, NameError, SyntaxError, AttributeError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    for name in ("axes", "trial"):
        if not hasattr(module, name):
            raise ValueError(f"{path} defines no {name!r}; a sweep file has `axes` (by scale) and `trial(base, ...)`")
    return Sweep(
        path=path,
        question=(module.__doc__ or "").strip(),
        axes=module.axes,
        trial=module.trial,
        follow_up=getattr(module, "follow_up", None),
    )


def distinct(trials: Sequence[Trial], where: str) -> list[Trial]:
    """Return the trials if no two have the same name or the same config."""
    names: dict[str, Trial] = {}
    prints: dict[str, Trial] = {}
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
