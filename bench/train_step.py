"""One training step of a scale's base trial at several micro-batches: seconds, tokens a second, peak memory on a GPU.

python bench/train_step.py [--scale pocket] [--steps 10] [--soft-tokens 64] [--recomputed]
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
import typer

from raybridge.errors import unknown
from raybridge.models import lm
from raybridge.scales import SCALES
from raybridge.training.micro_batches import Cut
from raybridge.training.step import Trainer, build_trainer
from raybridge.world import World

WARM = 2  # steps before the first that is timed


def main(
    scale: str = "pocket", steps: int = 10, soft_tokens: int | None = None, compiled: bool = False, recomputed: bool = False
) -> None:
    """Print the median step time with and without each term's own gradient norm, at a batch in one part, two and all."""
    known = {one.name: one for one in SCALES}
    if scale not in known:
        raise unknown("scale", scale, known)
    trial = known[scale].trial
    if soft_tokens:
        trial = replace(trial, translator=replace(trial.translator, soft_tokens=soft_tokens))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = lm.load(trial.source, device=device)
    target = source if trial.source == trial.target else lm.load(trial.target, device=device)
    if compiled:
        source.compile()
        target.compile()
    trainer = build_trainer(trial, source=source, target=target, world=World(device=device))
    weights = sum(p.numel() for p in trainer.parameters) / 1e6
    print(f"{scale}: batch {trial.batch}, K={trial.translator.soft_tokens}, {weights:.1f}M trained weights, {device}")
    for problems in dict.fromkeys((trial.batch, (trial.batch + 1) // 2, 1)):
        for measure in (False, True):
            print(told(trainer, Cut(problems=problems, recomputed=recomputed), steps, measure=measure))


def told(trainer: Trainer, cut: Cut, steps: int, *, measure: bool) -> str:
    """A line on steps at one cut; where memory ends, at which smaller one they went on."""
    device, times, tokens = trainer.world.device, [], 0
    trainer.micro_batches.cut = cut
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for step in range(WARM + steps):
        started = time.perf_counter()
        tokens = trainer.step(step, measure=measure, interrupt=False).tokens
        times.append(time.perf_counter() - started)
    median = sorted(times[WARM:])[steps // 2]
    what = "terms measured" if measure else "plain"
    line = f"{cut.problems:5} a pass {what:>15}: {median * 1e3:8.1f} ms a step, {tokens / median:10,.0f} tokens/s"
    if device.type == "cuda":
        line += f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB"
    return line if trainer.micro_batches.cut == cut else f"{line}, went on at {trainer.micro_batches.cut}"


if __name__ == "__main__":
    typer.run(main)
