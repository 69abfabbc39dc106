"""Trials as a reader knows them: flat configs, short names, and what a group of them is called."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from raybridge.config import kind_in
from raybridge.console import one_line


def flattened(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """A nested config as one level: {"translator": {"width": 4}} gives {"config.translator.width": 4}.

    Configs in a list are told apart by their class; a config's own entry is the name of its class.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}"
        if key == "class":
            flat[prefix] = kind_in(config)
        elif isinstance(value, Mapping):
            flat |= flattened(value, name)
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "class" in item for item in value):
            flat[name] = ", ".join(kind_in(item) for item in value)
            for item in value:
                own = f"{name}.{kind_in(item)}"
                flat |= {key: inner for key, inner in flattened(item, own).items() if key != own}
        else:
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def short(models: Iterable[str | None]) -> dict[str | None, str]:
    """What to call each model: its name without its owner or its folders, but for as much of them as tells it from others."""
    names = {model: _parts(model) for model in models}
    taken = dict.fromkeys(names, 1)
    while True:
        labels = {model: "/".join(parts[-taken[model] :]) for model, parts in names.items()}
        called = Counter(labels.values())
        alike = [model for model, label in labels.items() if called[label] > 1 and taken[model] < len(names[model])]
        if not alike:
            return {model: label if called[label] == 1 else str(model) for model, label in labels.items()}
        for model in alike:
            taken[model] += 1


def _parts(model: str | None) -> tuple[str, ...]:
    return tuple(str(model or "unknown").removeprefix("pocket:").rstrip("/").split("/"))


def seed_of(config: Mapping[str, Any]) -> float:
    """The seed of a resolved trial; NaN where there is none, or what an earlier run wrote in its place."""
    try:
        return float(config["seed"])
    except (KeyError, TypeError, ValueError):
        return math.nan


def name_of(evaluator: Mapping[str, Any]) -> str:
    """The name of a resolved evaluator: that of its file."""
    return str(evaluator["class"]).partition(":")[0].rpartition(".")[2]


def labels_of(trials: pd.DataFrame) -> dict[str, str]:
    """What to call each group: the name of its first trial without the seed.

    Where groups share a name it stands behind as many of the folders above, that an imported run remembers, as tell it from
    the others; where that tells nothing they are numbered.
    """
    labels: dict[str, str] = {}
    places: dict[str, str] = {}
    for group, part in trials.groupby("group", sort=False):
        first = part.iloc[0]
        label = first["trial"]
        if math.isfinite(first["seed"]):
            label = re.sub(rf"[_.-]?(?:seed|s)?{first['seed']:.0f}(?!\d)", "", label) or label
        labels[str(group)] = label
        folder = first.get("result.folder")
        above = folder.rpartition("/")[0] if isinstance(folder, str) else ""
        places[str(group)] = one_line(f"{above}/{label}") if above else label
    count = Counter(labels.values())
    for name in [label for label, groups in count.items() if groups > 1]:
        alike = [group for group, label in labels.items() if label == name]
        told = short(places[group] for group in alike)
        taken: Counter[str] = Counter()
        for group in alike:
            label = told[places[group]]
            taken[label] += 1
            labels[group] = label if taken[label] == 1 else f"{label} ({taken[label]})"
    return labels
