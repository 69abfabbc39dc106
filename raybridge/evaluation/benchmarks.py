"""The benchmarks that there are: the files of evaluators/."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from raybridge.data import Evaluator, Problem, Split, data_folder, data_state, draw
from raybridge.errors import unknown


def benchmarks() -> list[str]:
    """The names of the files of evaluators/."""
    package = importlib.util.find_spec("evaluators")
    assert package is not None
    return [module.name for module in pkgutil.iter_modules(package.submodule_search_locations)]


def check_benchmark(name: str, also: Iterable[str] = ()) -> None:
    """Refuse a name that no file of evaluators/ has, nor `also`, with its nearest."""
    valid = sorted({*benchmarks(), *also})
    if name not in valid:
        raise unknown("benchmark", name, valid, "--on")


def load_evaluator(name: str) -> Evaluator:
    """The evaluator that a file of evaluators/ offers, with its default options."""
    check_benchmark(name)
    module = importlib.import_module(f"evaluators.{name}")
    offered: list[Any] = [one for one in vars(module).values() if is_dataclass(one) and getattr(one, "name", None) == name]
    assert len(offered) == 1, f"evaluators/{name}.py must offer one dataclass named {name!r}"
    return offered[0]()


def check_problems(evaluator: Evaluator, needs: Mapping[Split, tuple[str, int]]) -> None:
    """Refuse a benchmark that lacks problems. needs: by split, the field that asks for problems of it, and for how many."""
    for split, (field, count) in needs.items():
        there = len(every_problem(evaluator, split))
        if there < count:
            raise ValueError(f"{field} asks for {count:,} problems, and the {split} split of {evaluator.name} has {there:,}")


def every_problem(evaluator: Evaluator, split: Split) -> tuple[Problem, ...]:
    """The problems of a split of a benchmark, read once."""
    return _problems(evaluator, split, None, data_state())


def some_problems(evaluator: Evaluator, split: Split, count: int) -> tuple[Problem, ...]:
    """So many of them, drawn by seed 0 once."""
    return _problems(evaluator, split, count, data_state())


@cache
def _problems(evaluator: Evaluator, split: Split, count: int | None, data: tuple[Hashable, ...]) -> tuple[Problem, ...]:
    """data: as they are now."""
    if count is not None:
        return tuple(draw(_problems(evaluator, split, None, data), count, seed=0))
    return tuple(evaluator.problems(split))


def exemplars_of(evaluator: Evaluator) -> tuple[Problem, ...]:
    """The worked exemplars of a benchmark, read once."""
    return _exemplars(evaluator, data_state())


@cache
def _exemplars(evaluator: Evaluator, data: tuple[Hashable, ...]) -> tuple[Problem, ...]:
    """data: as they are now."""
    return tuple(evaluator.exemplars())


def questions_of(evaluator: Evaluator) -> dict[str, str]:
    """The official test questions by problem id, if RAYBRIDGE_DATA is set: earlier runs are checked against them."""
    return {problem.id: problem.question for problem in every_problem(evaluator, "test")} if data_folder() else {}
