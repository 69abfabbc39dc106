"""The floors of the house: who may import whom. Sources are parsed, not imported."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
ROOMS = ("raybridge", "evaluators", "sweeps", "plots")

# Floor of every module of raybridge/ (of a package: the package). Imports point downwards, or sideways without a circle.
FLOORS = {
    name: floor
    for floor, names in {
        0: "errors config files results statistics pieces lm kv_cache decode data wire translators losses stopping pocket"
        " packing model_names prompts measure launches sweep_folder"
        " world checkpoint command runlog recorded imports paired hardening shown byte_lm gguf_files terminal",
        1: "trial answers naming findings outcomes cautions runs progress provenance",
        2: "scales batches step train evaluation requests models arms rescoring scoring latency assess"
        " scorecard judging matrix summary style latex report diagnostics",
        3: "cluster",
        4: "sweep evaluate plots",
    }.items()
    for name in names.split()
}
# The rooms behind plots.
DRAWING = ("answers", "naming", "findings", "outcomes", "cautions", "runs", "style", "latex", "report")
BEHIND_PLOTS = ("results", "files", "config", "statistics", "errors", "command", *DRAWING)
# What may be imported by modules that are not free to import everything below them. Longest prefix wins.
MAY_IMPORT = {
    **{f"raybridge.{name}": [f"raybridge.{other}" for other in BEHIND_PLOTS] for name in ("plots", *DRAWING)},
    "evaluators": ["raybridge.data"],
    "evaluators.pocket": ["raybridge.data", "raybridge.pocket.problems"],
    "plots": ["raybridge.plots", "raybridge.statistics"],
    "sweeps": ["evaluators", *(f"raybridge.{name}" for name in ("trial", "scales", "translators", "losses", "stopping"))],
}
HEAVY = {"torch", "transformers", "ray", "datasets", "safetensors"}
LIGHT = ["plots", *(f"raybridge.{name}" for name in ("plots", "results", "files", "statistics", "errors", *DRAWING))]
# Complete base trials need a benchmark; the pocket pair is trained until it is good at its own.
MAY_NAME_A_BENCHMARK = {"raybridge.scales", "raybridge.pocket.__main__"}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def sources() -> dict[str, str]:
    """Module name -> source, of every room."""
    found = {}
    for room in ROOMS:
        for path in sorted((HOUSE / room).rglob("*.py")):
            parts = path.relative_to(HOUSE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf8")
    return found


def imports(module: str, source: str, known: set[str]) -> set[str]:
    """Modules that a source imports, wherever in it, also by a literal name given to import_module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively; write the whole name"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in inner}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                found.add(str(node.args[0].value))
    return found


def violations(modules: dict[str, str]) -> list[str]:
    """Every import that the design does not allow, in words."""
    graph = {name: imports(name, source, set(modules)) for name, source in modules.items()}
    found = []
    for name, imported in sorted(graph.items()):
        found += [f"{name} imports {other}" for other in sorted(imported) if not allowed(name, other)]
        if within(name, "raybridge") and name != "raybridge" and name.split(".")[1] not in FLOORS:
            found.append(f"{name} has no floor: give it one in FLOORS")
    found += [f"{name} reaches {other}" for name in LIGHT for other in sorted(reached(graph, name) & HEAVY)]
    try:
        TopologicalSorter({name: (imported & modules.keys()) - {name} for name, imported in graph.items()}).prepare()
    except CycleError as error:
        found.append("a circle of imports: " + " -> ".join(error.args[1]))
    return found


def allowed(name: str, other: str) -> bool:
    """Whether one module may import another."""
    room, top = name.split(".")[0], other.split(".")[0]
    if top == "ray":
        return within(name, "raybridge.cluster")
    if top not in ROOMS or other in ("raybridge", name):  # a command that runs as a module imports itself
        return True
    if keys := [key for key in MAY_IMPORT if within(name, key)]:
        return any(within(other, package) for package in MAY_IMPORT[max(keys, key=len)])
    assert room == "raybridge"
    if top == "raybridge":
        return FLOORS.get(other.split(".")[1], 99) <= FLOORS.get(name.partition(".")[2].split(".")[0], 99)
    return top == "evaluators" and (name in MAY_NAME_A_BENCHMARK or other == "evaluators")  # looking into the folder names none


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Top-level names of everything that importing `start` (or a module in it) imports."""
    seen, todo = set(), [name for name in graph if within(name, start)]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [*graph.get(name, ())]
    return {name.split(".")[0] for name in seen}


def test_imports_point_downwards():
    assert violations(sources()) == []


def test_every_room_was_read():
    modules = sources()
    assert {"raybridge.results", "raybridge.trial", "evaluators.gsm8k"} <= modules.keys()
    assert "raybridge.config" in imports("raybridge.trial", modules["raybridge.trial"], set(modules))
    assert "raybridge.lm" in imports("raybridge.arms", modules["raybridge.arms"], set(modules))


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("raybridge.data", "from raybridge.trial import Trial", "raybridge.data imports raybridge.trial"),
        ("raybridge.trial", "def f():\n    from raybridge import train", "raybridge.trial imports raybridge.train"),
        ("raybridge.train", "import ray", "raybridge.train imports ray"),
        ("raybridge.sweep", "from ray.train import Checkpoint", "raybridge.sweep imports ray.train"),
        (
            "raybridge.sweep",
            "from raybridge.plots import Runs\nimport raybridge.nowhere",
            "raybridge.sweep imports raybridge.nowhere",
        ),
        ("raybridge.results", "import torch", "raybridge.results reaches torch"),
        ("raybridge.statistics", "from raybridge.lm import token_nll", "raybridge.statistics reaches torch"),
        ("raybridge.plots", "from raybridge.trial import Trial", "raybridge.plots imports raybridge.trial"),
        ("raybridge.evaluation", "from evaluators.gsm8k import GSM8K", "raybridge.evaluation imports evaluators.gsm8k"),
        ("raybridge.sweep", "from sweeps.compression import axes", "raybridge.sweep imports sweeps.compression"),
        ("raybridge.plots", "import plots.arms", "raybridge.plots imports plots.arms"),
        ("raybridge.plots", "import_module('plots.arms')", "raybridge.plots imports plots.arms"),
        ("evaluators.svamp", "from raybridge.config import resolve", "evaluators.svamp imports raybridge.config"),
        ("evaluators.gsm8k", "from raybridge.pocket.problems import x", "evaluators.gsm8k imports raybridge.pocket.problems"),
        ("sweeps.arms", "from raybridge.train import train", "sweeps.arms imports raybridge.train"),
        ("plots.arms", "from raybridge.results import Results", "plots.arms imports raybridge.results"),
        ("plots.arms", "import torch", "plots reaches torch"),
        ("raybridge.losses", "from raybridge.losses.next_token import AnswerNLL", "a circle of imports"),
        ("raybridge.attic", "x = 1", "raybridge.attic has no floor"),
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
        ("sweeps.arms", "from raybridge.losses.next_token import AnswerNLL\nfrom evaluators.gsm8k import GSM8K"),
        ("plots.arms", "from raybridge.plots import Runs\nfrom raybridge import statistics\nimport pandas"),
        ("raybridge.cluster.tuner", "import ray\nfrom raybridge.cluster.replicas import Pool"),
        ("raybridge.scales", "from evaluators.gsm8k import GSM8K"),
    ],
)
def test_what_the_design_allows_is_allowed(module, source):
    modules = sources()
    assert set(violations(modules | {module: source})) <= set(violations(modules))


def test_files_of_a_trial_are_named_by_the_rooms_that_read_and_write_them():
    rooms = {"raybridge.results", "raybridge.launches"}
    files = {"metrics.jsonl", "evals.parquet", "conditioning.parquet", "result.json", "failure.json", "timing.json"}
    named = {
        (module, node.value)
        for module, source in sources().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.value in files
    }
    assert {file for _, file in named} == files
    assert {module for module, _ in named} == rooms


def test_drawing_starts_without_torch_and_ray():
    """The sources say it above; this is what Python really loads."""
    import subprocess
    import sys

    code = f"import sys, raybridge.plots; print(sorted({HEAVY!r} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE).stdout == "[]\n"
