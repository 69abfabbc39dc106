"""What a wheel carries, and that raybridge installed from it, far from any clone, finds what belongs to it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

from raybridge import HOUSE

FOLDERS = ("evaluators", "plots", "sweeps")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
FILES = sorted(str(path.relative_to(HOUSE)) for folder in FOLDERS for path in (HOUSE / folder).glob("*.py"))


def ran(*words: object, cwd: Path, **environment: str) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run([*map(str, words)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves its work beside the sources."""
    clone, built = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    for file in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        copy(HOUSE / file, clone)
    for folder in ("raybridge", *FOLDERS):
        copytree(HOUSE / folder, clone / folder, ignore=ignore_patterns("__pycache__"))
    ran(*PIP, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", built, cwd=clone)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Where the wheel is installed, and nothing else."""
    site = tmp_path_factory.mktemp("site")
    ran(*PIP, "install", "--no-deps", "--target", site, wheel, cwd=site)
    return site


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A user's folder, far from any clone."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def python(*words: object, at: Path, cwd: Path) -> str:
    """Run Python where raybridge is importable from `at`. -S: without the editable install of the machine that tests."""
    path = [str(at), *dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))]
    return ran(sys.executable, "-S", *words, cwd=cwd, PYTHONPATH=os.pathsep.join(path))


def test_top_level_of_the_wheel_is_raybridge_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"raybridge", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    assert {f"raybridge/house/{file}" for file in FILES} == {name for name in names if name.startswith("raybridge/house/")}
    sources = {str(path.relative_to(HOUSE)) for path in (HOUSE / "raybridge").rglob("*.py")}
    beside = {"raybridge/py.typed", "raybridge/pocket/source/model.safetensors", "raybridge/pocket/target/model.safetensors"}
    assert sources | beside <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


INSTALLED = """
from pathlib import Path
import raybridge.scales
from raybridge import HOUSE, plots, sweep_file
from raybridge.evaluation.benchmarks import benchmarks
print(HOUSE)
print(*sorted(benchmarks()))
print(type(raybridge.scales.POCKET.trial.evaluator).__module__)
print(*(plots.load(Path(path.stem)).name for path in sorted((HOUSE / "plots").glob("[!_]*.py"))))
print(*(sweep_file.load(path).name for path in sorted((HOUSE / "sweeps").glob("[!_]*.py"))))
"""


def names_in(folder: str) -> str:
    """What a folder of the clone offers."""
    return " ".join(sorted(path.stem for path in (HOUSE / folder).glob("[!_]*.py")))


def test_installed_it_finds_its_evaluators_plots_and_sweeps(installed, elsewhere):
    house = str(installed / "raybridge" / "house")
    found = [house, names_in("evaluators"), "evaluators.pocket", names_in("plots"), names_in("sweeps")]
    assert python("-c", INSTALLED, at=installed, cwd=elsewhere).splitlines() == found


def test_installed_its_commands_run(installed, elsewhere):
    said = python(installed / "bin" / "raybridge", "--version", at=installed, cwd=elsewhere)
    assert said == f"raybridge {version('raybridge')}\n"
    assert "sweeps/compression.py" in python("-m", "raybridge.sweep", "--help", at=installed, cwd=elsewhere)


MINE = """
from raybridge.data import Problem
answer = 42
"""
USED = """
import {first}
import {second}
from evaluators import gsm8k, mine
print(mine.answer, gsm8k.GSM8K.name)
"""


@pytest.mark.parametrize("files", [("__init__.py", "mine.py"), ("mine.py",)], ids=["package", "plain folder"])
@pytest.mark.parametrize(
    ("where", "first", "second"),
    [
        ("installed", "raybridge", "evaluators.mine"),
        ("installed", "evaluators.mine", "raybridge"),
        ("clone", "raybridge", "evaluators.mine"),
    ],
)
def test_a_users_evaluators_and_ours_are_one_package(request, elsewhere, where, first, second, files):
    folder = elsewhere / "evaluators"
    folder.mkdir()
    for file in files:
        (folder / file).write_text(MINE if file == "mine.py" else "")
    at = HOUSE if where == "clone" else request.getfixturevalue("installed")
    assert python("-c", USED.format(first=first, second=second), at=at, cwd=elsewhere) == "42 gsm8k\n"


def test_distributions_are_found_once():
    """A finder that inherits Python's own would list what is installed a second time."""
    code = "from importlib.metadata import distributions as found; before = len([*found()])\nimport raybridge\n"
    assert ran(sys.executable, "-c", f"{code}print(len([*found()]) - before)", cwd=HOUSE) == "0\n"
