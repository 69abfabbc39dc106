"""`python -m bench train|decode|evaluate|sweep|scaling [--scale pocket|small|full]`: raybridge beside plain transformers.

Both in one run, and one table each: median and spread of problems and tokens a second, the share of what the card's arithmetic
or its memory allows (measured in the same run), peak memory, and the ratio to the plain implementation. `--json` prints the
same as JSON.

`pocket` is the shipped pair and takes under a minute on two cores. `small` loads the scale's models by name. `full` makes
models of the shapes of Mistral-7B-v0.3 and Llama-3.1-8B with random weights on the GPU; it wants RAYBRIDGE_TOKENIZERS (a
folder with `mistral03` and `llama31`, each as AutoTokenizer loads it) and RAYBRIDGE_DATA (with GSM8K):

    RAYBRIDGE_TOKENIZERS=tok RAYBRIDGE_DATA=data python -m bench decode --scale full
    RAYBRIDGE_TOKENIZERS=tok RAYBRIDGE_DATA=data python -m bench train --scale full
    RAYBRIDGE_TOKENIZERS=tok RAYBRIDGE_DATA=data python -m bench evaluate --scale full --problems 256
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.report import Report, printed
from raybridge.console import DEBUG, HELP, guarded

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, context_settings=HELP)
console = Console(width=150)
# torch and transformers take seconds to import: the commands import them.


class ScaleName(StrEnum):
    """How large."""

    pocket = "pocket"
    small = "small"
    full = "full"


SCALE = Annotated[ScaleName, typer.Option("--scale", help="pocket, small or full")]
REPEATS = Annotated[int | None, typer.Option(min=1, help="times that each way is timed; default: the scale's")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON")]
OUT = Annotated[Path | None, typer.Option("--out", help="a file for the JSON, beside the table")]


@app.command("decode")
def decode_(
    scale: SCALE = ScaleName.pocket,
    repeats: REPEATS = None,
    length: Annotated[int, typer.Option(min=2, help="new tokens")] = 128,
    as_json: JSON = False,
    out: OUT = None,
    debug: DEBUG = False,
) -> None:
    """Greedy decoding from embeddings, with and without 8 exemplars before every row, against `generate`."""
    with guarded(console, debug=debug):
        from bench.decode import decode

        _show(decode(scale.value, repeats=repeats, length=length), as_json=as_json, out=out)


@app.command("train")
def train_(
    scale: SCALE = ScaleName.pocket,
    repeats: REPEATS = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps that are timed together; default: the scale's")] = None,
    only: Annotated[int | None, typer.Option("--soft-tokens", min=1, help="one K; default: the scale's")] = None,
    model: Annotated[str | None, typer.Option(help="source and target in the place of the scale's")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="problems a step; default: the scale's")] = None,
    as_json: JSON = False,
    out: OUT = None,
    debug: DEBUG = False,
) -> None:
    """Training steps on answers and repetitions, the source's states kept, against padded batches and both models."""
    with guarded(console, debug=debug):
        from bench.train import train

        report = train(scale.value, repeats=repeats, steps=steps, soft_tokens=only, model=model, batch=batch)
        _show(report, as_json=as_json, out=out)


@app.command("evaluate")
def evaluate_(
    scale: SCALE = ScaleName.pocket,
    repeats: REPEATS = None,
    problems: Annotated[int | None, typer.Option(min=2, help="of test; default: the scale's")] = None,
    as_json: JSON = False,
    out: OUT = None,
    debug: DEBUG = False,
) -> None:
    """One checkpoint by every arm and control, frozen arms kept, against three arms by `generate`."""
    with guarded(console, debug=debug):
        from bench.evaluate import evaluate

        _show(evaluate(scale.value, repeats=repeats, problems=problems), as_json=as_json, out=out)


@app.command("scaling")
def scaling_(
    scale: SCALE = ScaleName.pocket,
    cards: Annotated[int, typer.Option("--gpus", min=2, help="processes beside one, each on a card of its own")] = 2,
    as_json: JSON = False,
    out: OUT = None,
    debug: DEBUG = False,
) -> None:
    """A training step and an evaluation of as many problems a card, on one card and on several."""
    with guarded(console, debug=debug):
        from bench.scaling import scaling

        _show(scaling(scale.value, cards=cards), as_json=as_json, out=out)


@app.command("sweep")
def sweep_(
    scale: SCALE = ScaleName.pocket,
    repeats: REPEATS = None,
    as_json: JSON = False,
    out: OUT = None,
    debug: DEBUG = False,
) -> None:
    """A small sweep at pocket scale, and its time outside training and evaluation, against the same trials in a plain loop."""
    with guarded(console, debug=debug):
        from bench.sweep import sweep

        _show(sweep(scale.value, repeats=repeats), as_json=as_json, out=out)


def _show(report: Report, *, as_json: bool, out: Path | None) -> None:
    """A report as it was asked for."""
    if out is not None:
        out.write_text(report.as_json() + "\n", encoding="utf8")
    if as_json:
        typer.echo(report.as_json())
    else:
        printed(report, console)


if __name__ == "__main__":
    app()
