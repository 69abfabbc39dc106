"""`python -m raybridge.serve TRIAL --engine URL`: questions in, answers of a running vLLM out, soft tokens between them.

The engine is a vLLM with the trial's target, started with `vllm serve TARGET --enable-prompt-embeds`. Here run the source and
the translator, under Ray Serve; what the engine gets is the whole prompt as embeddings: frame, soft tokens, frame.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raybridge.console import DEBUG, HELP, RESULTS, guarded, printable
from raybridge.results.command_log import logged

app = typer.Typer(add_completion=False, help=__doc__, context_settings=HELP)
console = Console(width=None if sys.stdout.isatty() else 160)  # a log file has no width of its own


@app.command()
def main(
    trial: Annotated[str, typer.Argument(help="a trial, a bundle, or a saved bridge, as `raybridge.load` takes it")],
    engine: Annotated[str, typer.Option("--engine", help="URL of the running vLLM, such as http://localhost:8000")],
    model: Annotated[str | None, typer.Option(help="the target as the engine calls it; default: its only one")] = None,
    on: Annotated[str | None, typer.Option("--on", help="whose frame is around a question; default: the trial's own")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU if there is one")] = None,
    gpus: Annotated[float | None, typer.Option(min=0.0, help="of a replica, as Ray counts; default: 1 on cuda")] = None,
    replicas: Annotated[int, typer.Option(min=1, help="how many run source and translator")] = 1,
    host: Annotated[str, typer.Option(help="where it listens")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="where it listens")] = 8001,
    results: RESULTS = Path("ray_results"),
    debug: DEBUG = False,
) -> None:
    """Serve a trained translator before a running vLLM until Ctrl-C."""
    with logged(results, "serve", console), guarded(console, debug=debug), suppress(KeyboardInterrupt):
        from transformers.utils import logging

        from raybridge.cluster.serving import Asked, serving
        from raybridge.evaluation.identity import device_here
        from raybridge.interface.engine import engine_at
        from raybridge.interface.loading import kept_of

        logging.disable_progress_bar()
        kept_of(trial, results=results)  # refused here, before anything starts
        kind = device or device_here()
        asked = Asked(
            named=str(Path(trial).absolute()) if Path(trial).exists() else trial,
            engine=engine_at(engine, model),
            results=results.absolute(),
            device=kind,
            on=on,
            replicas=replicas,
            gpus=gpus if gpus is not None else float(kind.startswith("cuda")),
        )
        with serving(asked, host=host, port=port) as (url, payload):
            _say(f'{url} answers {{"questions": ["..."]}} through {asked.engine.url} ({asked.engine.model})')
            _say(payload)
            until_stopped()


def until_stopped() -> None:
    """Wait for Ctrl-C."""
    threading.Event().wait()


def _say(text: str) -> None:
    console.print(printable(text), soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    app()
