"""The commands under one name: `raybridge sweep|evaluate|plots|serve ...`, or `python -m raybridge ...`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import typer

from raybridge import __version__
from raybridge.errors import unknown

COMMANDS = {
    "sweep": "run a file of sweeps/: plan, train, evaluate, stop, resume",
    "evaluate": "any trained translator on any benchmark with every arm; compare, summarize, export, verify, import-runs",
    "plots": "every figure and table that the results support",
    "serve": "a trained translator before a running vLLM: questions in, answers out",
}
MODULES = {name: f"raybridge.{name}" for name in COMMANDS} | {"plots": "raybridge.plots.__main__"}
HELP = "\n".join(
    [
        "Usage: raybridge COMMAND ... (raybridge COMMAND --help says more)",
        "",
        *(f"  {name:10} {what}" for name, what in COMMANDS.items()),
        "  --version  which raybridge this is",
    ]
)


def main() -> None:
    """Run the command that the first word names, as `python -m raybridge.COMMAND` does."""
    first, *rest = ["--help" if word == "-h" else word for word in sys.argv[1:]] or ["--help"]
    if first == "--version":
        sys.stdout.write(f"raybridge {__version__}\n")
    elif first == "--help":
        sys.stdout.write(HELP + "\n")
    elif first in COMMANDS:
        if (here := str(Path.cwd())) not in sys.path:  # a user's evaluators/ is found, as with python -m
            sys.path.insert(0, here)
        sys.argv = [f"raybridge {first}", *rest]  # how to resume is told from it
        app_of(first)(prog_name=sys.argv[0])
    else:
        sys.stderr.write(f"error {unknown('command', first, COMMANDS)}\n")
        sys.exit(2)


def app_of(command: str) -> typer.Typer:
    """What a command's module offers. Imported when it is called: torch takes seconds, and drawing needs none."""
    module = import_module(MODULES[command])
    if hasattr(module, "app"):
        return module.app
    app = typer.Typer(add_completion=False)
    app.command()(module.main)
    return app


if __name__ == "__main__":
    main()
