"""One training step of a scale's base trial: seconds and tokens a second, terms measured and not.

python bench/train_step.py [--scale pocket] [--steps 10]
"""

from __future__ import annotations

import time

import torch
import typer

from raybridge.errors import unknown
from raybridge.models import lm
from raybridge.scales import SCALES
from raybridge.training.step import build_trainer
from raybridge.world import World


def main(scale: str = "pocket", steps: int = 10, compiled: bool = False) -> None:
    """Print the median step time with and without each term's own gradient norm, and the peak memory on a GPU."""
    known = {one.name: one for one in SCALES}
    if scale not in known:
        raise unknown("scale", scale, known)
    trial = known[scale].trial
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = lm.load(trial.source, device=device)
    target = source if trial.source == trial.target else lm.load(trial.target, device=device)
    if compiled:
        source.compile()
        target.compile()
    trainer = build_trainer(trial, source=source, target=target, world=World(device=device))
    print(f"{scale}: batch {trial.batch}, {sum(p.numel() for p in trainer.parameters) / 1e6:.1f}M trained weights, {device}")
    step = 0
    for measure in (False, True):
        times, tokens = [], 0
        for _ in range(steps + 2):
            started = time.perf_counter()
            tokens = trainer.step(step, measure=measure, interrupt=False).tokens
            times.append(time.perf_counter() - started)
            step += 1
        median = sorted(times[2:])[steps // 2]
        what = "terms measured" if measure else "plain"
        print(f"{what:>15}: {median * 1e3:8.1f} ms a step, {tokens / median:10,.0f} tokens/s")
    if device.type == "cuda":
        print(f"{'peak memory':>15}: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    typer.run(main)
