"""The commands under one name: `raybridge sweep|evaluate|plots|serve ...`, or `python -m raybridge ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from raybridge import __version__
from raybridge.errors import unknown

COMMANDS = {
    "sweep": "run a file of sweeps/: plan, train, evaluate, stop, resume",
    "evaluate": "any benchmark; compare, summarize, export, verify, import-runs",
    "plots": "every figure and table that the results support",
    "serve": "a trained translator before a running vLLM: questions to answers",
}
MODULES = {name: f"raybridge.{name}" for name in COMMANDS} | {"plots": "raybridge.plots.__main__"}
TAKEN = {  # what stands behind an option, but for what a person must know
    "--scale": ("pocket", "small", "full"),
    "--log-to": ("tensorboard", "wandb", "mlflow"),
    "--format": ("pdf", "png"),
    "--split": ("dev", "test"),
}
FUNCTION = """_raybridge() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(raybridge --complete "${COMP_WORDS[@]:1:COMP_CWORD}")" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _raybridge raybridge
"""
SHELLS = {
    "bash": FUNCTION,
    "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{FUNCTION}",
    "fish": "complete -c raybridge -a '(raybridge --complete (commandline -opc)[2..] (commandline -ct))'\n",
}
HELP = "\n".join(
    [
        "Usage: raybridge COMMAND ... (raybridge COMMAND --help says more)",
        "",
        *(f"  {name:10} {what}" for name, what in COMMANDS.items()),
        "  --version  which raybridge this is",
        '  --completion SHELL  bash, zsh or fish: eval "$(raybridge --completion bash)"',
    ]
)


def main() -> None:
    """Run the command that the first word names, as `python -m raybridge.COMMAND` does."""
    first, *rest = ["--help" if word == "-h" else word for word in sys.argv[1:]] or ["--help"]
    if first == "--version":
        sys.stdout.write(f"raybridge {__version__}\n")
    elif first == "--completion":
        told = SHELLS.get(rest[0] if rest else "")
        sys.stdout.write(told or f"error {unknown('shell', rest[0] if rest else '', SHELLS)}\n")
        sys.exit(0 if told else 2)
    elif first == "--complete":
        sys.stdout.write("".join(f"{word}\n" for word in completions(rest)))
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


def completions(words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last word: commands, options and what they take, trials. Files are the shell's."""
    if len(words) < 2:
        return [*COMMANDS, "--help", "--version", "--completion"]
    if words[0] not in COMMANDS:
        return []
    command: Any = typer.main.get_command(app_of(words[0]))
    inner = getattr(command, "commands", {})
    names = list(inner) if len(words) == 2 else []
    if inner:
        command = inner.get(words[1], inner[command.unnamed])
    before = next((one for one in command.params if words[-2] in one.opts), None)
    if before is not None and not before.is_flag:
        return list(TAKEN.get(words[-2], ()))
    options = [name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("--")]
    trials = sorted(path.name for path in Path("ray_results/trials").glob("[!.]*/")) if inner else []
    return [*names, *trials, *options, "--help"]


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
