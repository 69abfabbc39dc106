"""`raybridge sweep|evaluate|plots ...`, or `python -m raybridge ...`: the commands under one name."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import version

from raybridge.errors import unknown

COMMANDS = {
    "sweep": "run a file of sweeps/: plan, train, evaluate, stop, resume",
    "evaluate": "any trained translator on any benchmark with every arm; compare, summarize, import-runs",
    "plots": "every figure and table that the results support",
}
HELP = "\n".join(
    [
        "Usage: raybridge COMMAND ... (raybridge COMMAND --help says more)",
        "",
        *(f"  {name:10}{what}" for name, what in COMMANDS.items()),
        "  --version   which raybridge this is",
    ]
)


def main() -> None:
    """Run the command that the first word names, as `python -m raybridge.COMMAND` does."""
    first, *rest = sys.argv[1:] or ["--help"]
    if first == "--version":
        sys.stdout.write(f"raybridge {version('raybridge')}\n")
    elif first in ("--help", "-h"):
        sys.stdout.write(HELP + "\n")
    elif first in COMMANDS:
        sys.argv = [f"raybridge {first}", *rest]
        runpy.run_module(f"raybridge.{first}", run_name="__main__", alter_sys=True)
    else:
        sys.stderr.write(f"error {unknown('command', first, COMMANDS)}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
