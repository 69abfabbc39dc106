"""Weak scaling: as many problems a card, on one card and on several.

A training step, whose workers add their gradients up, and an evaluation behind exemplars, of two arms by a replica a card; each
by one process a card. Efficiency is problems a second and card on several over those on one, in the same run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bench.card import head, here
from bench.evaluate import checkpoint_of
from bench.report import Report, rows_of
from bench.shapes import Pair, pair_of
from bench.train import first_timed, walk
from bench.turns import Call, Timed, Way, Work, timed
from raybridge import arms as arm_files
from raybridge.evaluation.kept_source import KeptSource
from raybridge.results.states import States
from raybridge.training.step import build_trainer
from raybridge.world import World

ARMS = ("target", "bridged")
STEPS, EVALUATION = "training step", f"evaluation of {' and '.join(ARMS)}"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Problems a step and card, and of an evaluation and card; steps that make one call, and how often each is timed.

    before: steps that are taken first, as in `bench.train`.
    """

    batch: int
    problems: int
    steps: int
    repeats: int
    before: int = 0


SIZES = {
    "pocket": Sizes(batch=4, problems=4, steps=1, repeats=2),
    "small": Sizes(batch=64, problems=256, steps=4, repeats=3, before=40),
    "full": Sizes(batch=8, problems=128, steps=6, repeats=8, before=80),
}


def scaling(scale: str, *, cards: int) -> Report:
    """Time it. cards: how many, beside one."""
    device = here()
    if device.type == "cuda" and not 2 <= cards <= torch.cuda.device_count():
        raise ValueError(f"--gpus {cards}: weak scaling is seen on 2 to {torch.cuda.device_count()} cards here")
    with pair_of(scale, device) as pair:
        asked, there = cards * SIZES[scale].problems, len(pair.trial.evaluator.problems("test"))
        if asked > there:
            raise ValueError(f"--gpus {cards}: {asked:,} problems would be evaluated, and there are {there:,}")
        return _scaling(scale, pair, SIZES[scale], cards)


def _scaling(scale: str, pair: Pair, sizes: Sizes, cards: int) -> Report:
    facts, seen = head(pair.device, scale, pair.told), []
    for count in (1, cards):
        seconds = _seconds(pair, sizes, count)
        for name, problems in ((STEPS, sizes.batch * sizes.steps), (EVALUATION, sizes.problems)):
            way = Way(name=_named(name, count), ready=_nothing, beside=_named(name, 1) if count > 1 else "")
            work = Work(problems=problems * count, tokens=None, steps=sizes.steps if name == STEPS else sizes.problems)
            seen.append(Timed(way=way, seconds=seconds[name], works=[work] * len(seconds[name])))
    rows = rows_of(seen, most=None, by="problems")
    notes = [f"{row.way}: efficiency {row.ratio / cards:.2f}" for row in rows if row.ratio is not None]
    facts |= {"a card": f"{sizes.batch} problems a step, {sizes.problems} of an evaluation"}
    return Report(bench="scaling", head=facts, step="a step or problem", share="", rows=rows, notes=notes)


def _named(name: str, cards: int) -> str:
    return f"{name}, {cards} process{'es' if cards > 1 else ''}"


@contextmanager
def _nothing() -> Iterator[Call]:
    raise AssertionError("what is timed here is timed in processes of its own")
    yield


def _seconds(pair: Pair, sizes: Sizes, count: int) -> dict[str, list[float]]:
    """What so many processes take, each call by the clock of the first."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, args=(count, pair, sizes, Path(folder)), nprocs=count)
        told: dict[str, list[float]] = json.loads((Path(folder) / "seconds.json").read_text(encoding="utf8"))
        return told


def _process(rank: int, count: int, pair: Pair, sizes: Sizes, folder: Path) -> None:
    """One of them."""
    device = torch.device(pair.device.type, rank) if pair.device.type == "cuda" else pair.device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)  # of each, as at pocket scale: more would be the others'
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=count)
    models = {name: pair.read(name, device=device) for name in pair.trial.models}
    here = Pair(trial=pair.trial, read=lambda name, device: models[name], device=device)
    world = World(rank=rank, size=count, device=device)
    told = {STEPS: _steps(here, sizes, world, folder), EVALUATION: _evaluations(here, sizes, world)}
    if rank == 0:
        (folder / "seconds.json").write_text(json.dumps(told), encoding="utf8")
    dist.destroy_process_group()


def _steps(pair: Pair, sizes: Sizes, world: World, folder: Path) -> list[float]:
    trial = replace(pair.trial, batch=sizes.batch * world.size)
    kept = KeptSource(
        trial.source, device=world.device, kept=States(root=folder / str(world.rank)), load=lambda: pair.load(trial.source)
    )
    target = pair.load(trial.target)
    trainer = build_trainer(trial, source=kept, target=target, world=world)
    first = first_timed(trial)
    ends = [first + sizes.steps * (1 + number) for number in range(sizes.repeats)]
    rows = [row for step in range(ends[-1] + sizes.before) for row in trainer.batches.of_step(step, world).source_questions]
    kept.keep(trainer.batches.source.before, rows, trial.translator.layers)

    with target.recording():
        walk(trainer, [*range(first), *range(ends[-1], ends[-1] + sizes.before)], measure=False)
        return [_together(partial(walk, trainer, range(end - sizes.steps, end), measure=False), world) for end in ends]


def _evaluations(pair: Pair, sizes: Sizes, world: World) -> list[float]:
    checkpoint = checkpoint_of(pair, sizes.problems * world.size)
    own = replace(checkpoint.setting, problems=checkpoint.setting.problems[world.rank :: world.size])
    checkpoint = replace(checkpoint, setting=own)
    arms = [arm_files.find(name) for name in ARMS]
    checkpoint.rows(arms)  # to warm up
    return [_together(partial(checkpoint.rows, arms), world)]


def _together(call: Callable[[], object], world: World) -> float:
    """Seconds until the last process has done it."""
    dist.barrier()
    seconds, _ = timed(lambda: (call(), dist.barrier()), world.device)
    return seconds
