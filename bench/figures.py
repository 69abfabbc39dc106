"""Figures, tables and report of 1,000 trials with 100 evaluations each: seconds from start to the last file.

python bench/figures.py [--trials 1000] [--evaluations 100] [--processors 2] [--report]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

HOUSE = Path(__file__).parents[1]
sys.path.insert(0, str(HOUSE / "tests" / "helpers"))

import synthetic  # noqa: E402

from raybridge.results import Results, TrialRun  # noqa: E402

SEEDS = 5
TEMPLATES = ((4, False), (8, True), (16, False), (32, False))  # soft tokens, whether it is stopped early


def build(root: Path, *, trials: int, evaluations: int) -> None:
    """A few trials are simulated; the others are these under another seed or learning rate, their tables hard links."""
    simulated = []
    for k, stopped in TEMPLATES:
        run = synthetic.trial(root / "seen", f"t_{k}tok", soft_tokens=k, stopped=stopped, points=evaluations, n=200)
        simulated.append(run)
    (root / "seen" / "baselines").rename(root / "baselines")
    planned: dict[str, list[TrialRun]] = {"compression": [], "stability": [], "loss_ablation": [], "learning_rate": []}
    for number in range(trials):
        of, seed = divmod(number, SEEDS)
        k, template = TEMPLATES[of % 4][0], simulated[of % 4]
        sweep = list(planned)[min(of // 4, 3)]
        plain = synthetic.config(f"{sweep}_{of}_s{seed}", soft_tokens=k, seed=seed, learning_rate=1e-4 * (1 + of))
        planned[sweep].append(copied(template, root, plain))
    for sweep, runs in planned.items():
        synthetic.sweep(root, sweep, runs)


def copied(template: TrialRun, root: Path, plain: dict) -> TrialRun:
    """The same trial under another config."""
    run = Results(root).open_trial(
        name=plain["name"],
        fingerprint=synthetic.fingerprint(plain),
        config=plain | {"contents": template.contents},
        provenance=template.provenance,
    )
    for path in template.path.rglob("*"):
        place = run.path / path.relative_to(template.path)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            os.link(path, place)
    result = json.loads((run.path / "result.json").read_text()) | {"name": run.name, "fingerprint": run.fingerprint}
    run.finish(result)
    return run


def main(
    trials: int = 1000,
    evaluations: int = 100,
    processors: Annotated[int, typer.Option(help="how many of this machine's cores the command may use")] = 2,
    report: Annotated[bool, typer.Option("--report", help="write the report as well")] = False,
    keep: Annotated[Path | None, typer.Option(help="build the results here, or use those that are here")] = None,
) -> None:
    """Build results, draw all of them in a process of its own, print the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = keep or Path(folder)
        if not (root / "trials").exists():
            build(root, trials=trials, evaluations=evaluations)
        cores = sorted(os.sched_getaffinity(0))[:processors]
        started = time.perf_counter()
        command = [sys.executable, "-m", "raybridge.plots", "--results", str(root), *(["--report"] if report else [])]
        subprocess.run(command, cwd=HOUSE, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{trials} trials with {evaluations} evaluations each: {seconds:.1f} s on {len(cores)} cores, "
        f"{used.ru_utime + used.ru_stime:.1f} s of them computing"
    )


if __name__ == "__main__":
    typer.run(main)
