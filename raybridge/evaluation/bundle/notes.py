"""What a reader of a bundle must know: what it is, how it is verified, under which licences it stands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

COMMAND = "python -m raybridge.evaluate verify"


def readme(*, title: str, models: Sequence[str], commit: str, weights: bool, frames: bool, left_out: Collection[str]) -> str:
    """README.md of a bundle."""
    missing = "" if weights else " Its weights are not in it: arms of the translator cannot be computed again from it."
    texts = ["`frames/` the text", "around the questions,"] if frames else ["and", "the digests of the texts around them,"]
    lines = [
        f"# {title}",
        "",
        f"What one trial of raybridge came to: a translator between two frozen models, {models[0]} and {models[1]}.{missing}",
        f"To verify it, with raybridge installed (it was written at commit {commit}):",
        "",
        f"    {COMMAND} .",
        "",
        "`trial.json` is the whole config with digests of what it read, `provenance.json` where the numbers come from,",
        f"`rows/` what every arm answered to every problem (ids, completions and scores; no questions), {texts[0]}",
        f"{texts[1]} `tables/` what raybridge prints of the rows, `LICENSES.md` what stands under which licence.",
        *(f"Left out: {one}" for one in left_out),
        "",
    ]
    return "\n".join(lines)


def licences(*, models: Sequence[str], benchmarks: Sequence[str], frames: bool) -> str:
    """LICENSES.md of a bundle."""
    excepted = ["worked exemplars in `frames/`"] if frames else []
    return "\n".join(
        [
            "# Licences",
            "",
            *standing(models),
            f"- Text of benchmarks ({', '.join(benchmarks)}) is not included: rows hold the ids of problems. Excepted, under",
            f"  the benchmarks' licences: {', and '.join([*excepted, 'what a model repeats of a question'])}.",
            "",
        ]
    )


def standing(models: Sequence[str]) -> list[str]:
    """Under which licences code, completions and weights stand that come of these models, as lines of Markdown."""
    return [
        "- raybridge, the code that computed all of this, stands under the Apache License 2.0.",
        f"- Completions are outputs of {' and '.join(models)}. They stand under what the licences of these models say of",
        "  outputs, and so may the translator's weights, which were trained through them. No model's weights are here.",
    ]
