"""The floors of the house: who may import whom. Sources are parsed, not imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from raybridge import HOUSE

FOLDERS = ("raybridge", "evaluators", "sweeps", "plots")

# From the ground up. A room imports from lower floors and from itself; rooms of one floor do not know each other.
FLOORS = [
    ("errors", "config", "statistics", "data", "world", "console"),
    ("models", "arms", "stopping"),
    ("translators", "results"),
    ("losses", "analysis", "trackers"),
    ("trial", "plots"),
    ("evaluation",),
    ("training", "interface"),
    ("pocket", "evaluators/"),
    ("scales", "sweeps/"),
    ("cluster", "sweep_file"),
    ("sweep", "evaluate", "serve", "__main__"),
]
WORDS = FLOORS[0]  # these alone know each other
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What the folders that users write in may import of the engine. Longest prefix wins.
MAY_IMPORT = {
    "evaluators": ["raybridge.data"],
    "evaluators.pocket": ["raybridge.data", "raybridge.pocket.problems"],
    "plots": ["raybridge.plots", "raybridge.analysis", "raybridge.statistics"],
    "sweeps": [
        *("evaluators", "sweeps"),
        *(f"raybridge.{name}" for name in ("trial", "scales", "translators", "losses", "stopping")),
    ],
}
HEAVY = {"torch", "transformers", "ray", "datasets", "safetensors"}
LATE = {
    ("raybridge.data.origin", "datasets"),  # imported where rows come from the hub, and nowhere else
    ("raybridge", "raybridge.interface.bridge"),  # for its type alone
    ("raybridge", "raybridge.interface.loading"),  # by `raybridge.load`
}
LIGHT = [
    "plots",
    *(f"raybridge.{name}" for name in ("errors", "statistics", "console", "results", "arms", "analysis", "trackers", "plots")),
]
# Complete base trials need a benchmark; the pocket pair is trained until it is good at its own.
MAY_NAME_A_BENCHMARK = {"raybridge.scales", "raybridge.pocket.__main__"}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@cache
def sources() -> dict[str, str]:
    """Module name -> source, of every room."""
    found = {}
    for room in FOLDERS:
        for path in sorted((HOUSE / room).rglob("*.py")):
            parts = path.relative_to(HOUSE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf8")
    return found


@cache
def written(module: str, source: str) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """What a source imports, wherever in it, also by a literal name given to import_module: modules; (module, name in it)."""
    whole, parts = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            whole |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively; write the whole name"
            assert node.module
            parts |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                whole.add(str(node.args[0].value))
    return frozenset(whole), frozenset(parts)


def imports(module: str, source: str, known: set[str]) -> set[str]:
    """Modules that a source imports; a name in a package may be one of these."""
    whole, parts = written(module, source)
    return whole | {name if (name := f"{package}.{part}") in known else package for package, part in parts}


def violations(modules: dict[str, str]) -> list[str]:
    """Every import that the design does not allow, in words."""
    known = set(modules)
    graph = {name: imports(name, source, known) for name, source in modules.items()}
    found = []
    for name, imported in sorted(graph.items()):
        found += [f"{name} imports {other}" for other in sorted(imported) if not allowed(name, other)]
        if room_of(name) not in FLOOR_OF and name != "raybridge":
            found.append(f"{name} stands on no floor: give its room one in FLOORS")
    found += [f"{name} reaches {other}" for name in LIGHT for other in sorted(reached(graph, name) & HEAVY)]
    try:
        early = {name: {other for other in imported if (name, other) not in LATE} for name, imported in graph.items()}
        TopologicalSorter({name: (imported & modules.keys()) - {name} for name, imported in early.items()}).prepare()
    except CycleError as error:
        found.append("a circle of imports: " + " -> ".join(error.args[1]))
    return found


def room_of(module: str) -> str:
    """The room that a module stands in: a file or folder of raybridge/, or a folder beside it, marked by a slash."""
    top, _, rest = module.partition(".")
    if top == "raybridge":
        return rest.split(".")[0]
    return "plots" if top == "plots" else f"{top}/"


def allowed(name: str, other: str) -> bool:
    """Whether one module may import another."""
    top = other.split(".")[0]
    if top == "ray":
        return within(name, "raybridge.cluster")
    if top not in FOLDERS or other in ("raybridge", name):  # a command that runs as a module imports itself
        return True
    if keys := [key for key in MAY_IMPORT if within(name, key)]:
        return any(within(other, package) for package in MAY_IMPORT[max(keys, key=len)])
    if top != "raybridge":  # looking into the folder names no benchmark
        return top == "evaluators" and (name in MAY_NAME_A_BENCHMARK or other == "evaluators")
    mine, theirs = room_of(name), room_of(other)
    if mine == theirs or (mine in WORDS and theirs in WORDS):
        return True
    return FLOOR_OF.get(theirs, 99) < FLOOR_OF.get(mine, 99)


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Top-level names of everything that importing `start` (or a module in it) imports."""
    seen, todo = set(), [name for name in graph if within(name, start)]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [other for other in graph.get(name, ()) if (name, other) not in LATE]
    return {name.split(".")[0] for name in seen}


def test_imports_point_downwards():
    assert violations(sources()) == []


def test_every_room_was_read():
    modules = sources()
    assert {"raybridge.results", "raybridge.trial", "evaluators.gsm8k"} <= modules.keys()
    assert {room_of(name) for name in modules} == FLOOR_OF.keys() | {""}
    assert "raybridge.config" in imports("raybridge.trial", modules["raybridge.trial"], set(modules))
    assert "raybridge.models.lm" in imports("raybridge.models.decode", modules["raybridge.models.decode"], set(modules))


def test_the_ground_floor_has_the_files_of_the_design_and_no_more():
    files = {path.stem for path in (HOUSE / "raybridge").glob("*.py")}
    words = {"errors", "config", "statistics", "world"}  # and data, which is a room
    doors = {"sweep_file", "sweep", "evaluate", "serve", "console"}
    assert files == words | {"trial", "stopping", "scales"} | doors | {"__init__", "__main__"}


PLANTED = {  # for every room, an import from the floor above it or from a room beside it
    **{f"raybridge.{room}": "raybridge.models.lm" for room in WORDS},
    "raybridge.models.lm": "raybridge.arms",
    "raybridge.arms": "raybridge.results",
    "raybridge.stopping": "raybridge.results",
    "raybridge.translators.wire": "raybridge.losses",
    "raybridge.results.store": "raybridge.translators.wire",
    "raybridge.losses.flow": "raybridge.trial",
    "raybridge.analysis.runs": "raybridge.trial",
    "raybridge.trackers.series": "raybridge.analysis.runs",
    "raybridge.trial": "raybridge.evaluation.setting",
    "raybridge.plots.style": "raybridge.trial",
    "raybridge.evaluation.setting": "raybridge.training.step",
    "raybridge.training.step": "raybridge.scales",
    "raybridge.interface.bridge": "raybridge.training.step",
    "raybridge.pocket.problems": "raybridge.scales",
    "raybridge.scales": "raybridge.cluster.tuner",
    "raybridge.sweep_file": "raybridge.cluster.tuner",
    "raybridge.cluster.tuner": "raybridge.sweep",
    "raybridge.sweep": "raybridge.evaluate",
    "raybridge.evaluate": "raybridge.sweep",
    "raybridge.serve": "raybridge.sweep",
    "raybridge.__main__": "sweeps.compression",
    "evaluators.svamp": "raybridge.config",
    "sweeps.compression": "raybridge.training.loop",
    "plots.arms": "raybridge.results",
}


def test_every_room_has_a_planted_violation():
    assert {room_of(name) for name in PLANTED} == FLOOR_OF.keys()


@pytest.mark.parametrize("module", PLANTED)
def test_an_import_from_above_or_beside_is_found(module):
    modules = sources()
    planted = modules | {module: f"{modules[module]}\nimport {PLANTED[module]}"}
    assert f"{module} imports {PLANTED[module]}" in violations(planted)


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("raybridge.training.loop", "import ray", "raybridge.training.loop imports ray"),
        ("raybridge.sweep", "from ray.train import Checkpoint", "raybridge.sweep imports ray.train"),
        ("raybridge.sweep", "def f():\n    import raybridge.nowhere", "raybridge.sweep imports raybridge.nowhere"),
        ("raybridge.results.files", "import torch", "raybridge.results reaches torch"),
        ("raybridge.arms", "def f():\n    import torch", "raybridge.arms reaches torch"),
        ("raybridge.statistics", "from raybridge.models.lm import load", "raybridge.statistics reaches torch"),
        ("raybridge.analysis.runs", "from raybridge.models.lm import load", "raybridge.analysis reaches torch"),
        (
            "raybridge.evaluation.setting",
            "from evaluators.gsm8k import GSM8K",
            "raybridge.evaluation.setting imports evaluators",
        ),
        ("raybridge.plots", "import plots.arms", "raybridge.plots imports plots.arms"),
        ("raybridge.plots", "import_module('plots.arms')", "raybridge.plots imports plots.arms"),
        ("evaluators.gsm8k", "from raybridge.pocket.problems import x", "evaluators.gsm8k imports raybridge.pocket.problems"),
        ("plots.arms", "import torch", "plots reaches torch"),
        ("raybridge.losses", "from raybridge.losses.next_token import AnswerNLL", "a circle of imports"),
        ("raybridge.attic", "x = 1", "raybridge.attic stands on no floor"),
    ],
)
def test_a_planted_violation_is_found(module, source, says):
    assert any(found.startswith(says) for found in violations(sources() | {module: source})), violations(
        sources() | {module: source}
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("evaluators.pocket", "from raybridge.pocket.problems import generate"),
        ("sweeps.swap", "from raybridge.losses.next_token import AnswerNLL\nfrom evaluators.gsm8k import GSM8K"),
        ("sweeps.swap", "from sweeps.stability import trial"),
        ("plots.arms", "from raybridge.plots import Runs\nfrom raybridge import statistics\nimport pandas"),
        ("raybridge.cluster.tuner", "import ray\nfrom raybridge.cluster.replicas import Pool"),
        ("raybridge.scales", "from evaluators.gsm8k import GSM8K"),
    ],
)
def test_what_the_design_allows_is_allowed(module, source):
    modules = sources()
    assert set(violations(modules | {module: source})) <= set(violations(modules))


def test_files_of_ray_results_are_named_by_results_alone():
    files = {
        "metrics.jsonl",
        "evals.parquet",
        "conditioning.parquet",
        "result.json",
        "failure.json",
        "timing.json",
        "plan.json",
    }
    named = {
        (module, node.value)
        for module, source in sources().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.value in files and room_of(module) != "pocket"
    }
    assert {file for _, file in named} == files
    assert {room_of(module) for module, _ in named} == {"results"}


def test_drawing_starts_without_torch_and_ray():
    """The sources say it above; this is what Python really loads."""
    code = f"import sys, raybridge.plots; print(sorted({HEAVY!r} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE).stdout == "[]\n"


def test_a_trials_driver_and_controller_import_no_code_of_models():
    """It takes seconds of each process, and neither of them has a model; a worker imports it when it loads one."""
    said = "import sys, raybridge.cluster.trainer; print('transformers.modeling_utils' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
