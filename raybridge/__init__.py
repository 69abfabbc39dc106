"""raybridge: train, sweep and honestly evaluate translators between frozen language models.

It hands out `load` and HOUSE, and `evaluators` and `sweeps` can be imported wherever raybridge has been. A file of sweeps/ or
plots/ that a user names is made a module by `module_of`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import extend_path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybridge.interface.bridge import TrainedBridge

__version__ = "0.1.0"
# Where the folders that users write in stand (evaluators/, plots/, sweeps/): the root of a clone. A wheel carries them inside
# the package (see setup.py), because their names are too common for a user's site-packages.
HOUSE = Path(__file__).parent / "house"
if not HOUSE.is_dir():
    HOUSE = Path(__file__).parents[1]


class OfHouse(MetaPathFinder):
    """Finds `evaluators` and `sweeps`, each as one package: the folders of that name on sys.path, and behind them the house's.

    A user's own folder comes first, as on any path, and hides none of ours, whose names (`evaluators.gsm8k:GSM8K`) stand in
    fingerprints. HOUSE at the end of sys.path would not do: a user's folder with an `__init__` would hide ours, and ours one
    without. Ray's workers import raybridge before they read a config, so it holds there too.
    """

    names = ("evaluators", "sweeps")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The package, for these names alone."""
        if fullname not in self.names:
            return None
        spec = PathFinder.find_spec(fullname, [*sys.path, str(HOUSE)], target)
        assert spec is not None, f"{HOUSE} has no {fullname}/"
        spec.submodule_search_locations = list(dict.fromkeys([*extend_path([], fullname), str(HOUSE / fullname)]))
        return spec


OF_HOUSE = OfHouse()
sys.meta_path.insert(0, OF_HOUSE)
for package in OF_HOUSE.names:
    if early := sys.modules.get(package):  # imported before raybridge, as by a script whose imports are sorted
        early.__spec__ = OF_HOUSE.find_spec(package)
        assert early.__spec__ is not None
        early.__path__ = early.__spec__.submodule_search_locations or []


def module_of(path: Path, package: str) -> ModuleType:
    """A file as a module of a folder that users write in, not yet run. None but ours has the name that ours is imported by."""
    ours = HOUSE / package / f"{path.stem}.py"
    own = ours.is_file() and not ours.samefile(path)
    spec = spec_from_file_location(f"{package}.own.{path.stem}" if own else f"{package}.{path.stem}", path)
    assert spec is not None
    return module_from_spec(spec)


@contextmanager
def registered(module: ModuleType) -> Iterator[None]:
    """A module that the block runs stands in sys.modules, where dataclasses look for it; if the block fails, no longer."""
    name, before = module.__name__, sys.modules.get(module.__name__)
    sys.modules[name] = module
    try:
        yield
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise


def load(
    named: str | Path,
    *,
    results: str | Path = "ray_results",
    device: str | None = None,
    on: str | None = None,
    target: str | None = None,
) -> TrainedBridge:
    """A trained translator with its frozen models, ready to be asked; `raybridge.interface.loading.load` says of what."""
    from raybridge.interface.loading import load as found  # torch takes seconds, and most commands need no bridge

    return found(named, results=results, device=device, on=on, target=target)
