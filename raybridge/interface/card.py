"""The model card of a saved bridge: what it is, what it scored beside its controls, how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybridge import arms
from raybridge.arms import Arm
from raybridge.evaluation.bundle.notes import standing
from raybridge.interface.kept import Kept

UNKNOWN = "No result was kept with it: nothing is known of what it carries."
HUB_ID = "/"  # a name on the hub has one
USE = """```python
import raybridge

bridge = raybridge.load("REPOSITORY OR FOLDER")
bridge.answer(["Ana packs 3 crates of 12 pears. How many pears is that?"])
bridge.soft_tokens(["Ana packs 3 crates of 12 pears. How many pears is that?"])  # (1, K, D)
```"""


def card_of(kept: Kept) -> str:
    """README.md as the hub reads it: facts for its index, then what a person must know. Missing results are said to be."""
    trial = kept.trial
    arm = arms.find(trial.translator.arm)
    test = kept.result.get("test") or {}
    lines = [
        *_index(kept),
        "",
        f"# {trial.name}",
        "",
        f"A translator: it reads hidden states of `{trial.source}` and writes {trial.translator.soft_tokens} soft tokens into",
        f"the embedding space of `{trial.target}`, which answers a question by arm `{arm.name}`. Both models are frozen and",
        f"neither is included. Trained by raybridge on {trial.evaluator.name}; step {kept.step}, chosen on the dev split.",
        "",
        "## What it scored",
        "",
        *(
            _scores(test, arm, trial.evaluator.name)
            if test
            else ["No result was kept with it: nothing is known of what it carries."]
        ),
        "",
        "## Use",
        "",
        USE,
        "",
        "## Licences",
        "",
        *standing([trial.source, trial.target]),
        "",
    ]
    return "\n".join(lines)


def _index(kept: Kept) -> list[str]:
    """The YAML at the head, which the hub reads."""
    trial = kept.trial
    bases = [model for model in dict.fromkeys((trial.source, trial.target)) if model.count(HUB_ID) == 1]
    based = ["base_model:", *(f"- {model}" for model in bases)] if bases else []
    return ["---", "library_name: raybridge", "tags:", "- raybridge", "- soft-tokens", *based, "---"]


def _scores(test: Mapping[str, Any], arm: Arm, benchmark: str) -> list[str]:
    """The table of the test split, the bridge first, then the control that it must beat, then the others."""
    readings = list(dict.fromkeys(reading for scored in test.values() for reading in scored))
    first = [one for one in (arm.name, arm.against) if one is not None and one in test]
    order = [*first, *(one for one in test if one not in first)]
    lines = [
        f"Test split of {benchmark}, read once. An accuracy has its 95% Wilson interval; NLL is of the worked answers, in nats",
        "a token. Controls should fail: a figure says something only beside them.",
        "",
        "| arm | reading | accuracy | problems | NLL |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in order:
        known = arms.known(name)
        called = f"{name} (control)" if known is not None and known.control else name
        for reading in readings:
            if reading in test[name]:
                lines.append(f"| {called} | {reading} | {_row(test[name][reading])} |")
    return [*lines, "", *_said(test, arm, readings[0])]


def _row(scored: Mapping[str, Any]) -> str:
    accuracy = f"{scored['accuracy']:.3f} [{scored['low']:.3f}, {scored['high']:.3f}]"
    nll = scored.get("nll")
    return f"{accuracy} | {scored['n']} | {'-' if nll is None else f'{nll:.3f}'}"


def _said(test: Mapping[str, Any], arm: Arm, reading: str) -> list[str]:
    """Whether it carries anything, as far as two intervals can tell; the paired test stands in the trial's results."""
    mine, other = (test.get(str(name), {}).get(reading) for name in (arm.name, arm.against))
    if mine is None or other is None:
        return [f"**Its control `{arm.against}` was not measured: nothing is known of what it carries.**"]
    if mine["low"] > other["high"]:
        return [f"By the {reading} reading its interval lies above that of `{arm.against}`."]
    short = f"**By the {reading} reading its interval does not lie above that of `{arm.against}`:"
    return [f"{short} by accuracy no transfer is shown.**"]
