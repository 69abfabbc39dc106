"""The parts in which a worker reads its share of a batch: as many problems in one pass of the target as its memory takes.

How many is no part of a trial: values and gradients are the same whatever the cut (`gradient_cache`).
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from raybridge.results.machine import Machine
from raybridge.trial import Trial
from raybridge.world import World

T = TypeVar("T")

# Problems of a pass. To compute layers again takes a third more time; passes of fewer problems leave a GPU idle for longer.
FEWEST = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a share is read: so many problems a pass at most, and whether layers are computed again on the way back."""

    problems: int
    recomputed: bool = False

    def parts(self, share: int) -> list[range]:
        """The rows of each micro-batch."""
        return [range(start, min(start + self.problems, share)) for start in range(0, share, self.problems)]

    def smaller(self, share: int) -> Cut | None:
        """What needs less memory; None where nothing does."""
        half = (self.problems + 1) // 2
        if self.recomputed:
            return None if self.problems == 1 else replace(self, problems=half)
        return Cut(problems=half) if FEWEST <= half < self.problems else Cut(problems=share, recomputed=True)

    def __str__(self) -> str:
        again = ", its layers computed again on the way back" if self.recomputed else ""
        return f"{self.problems} problem{'s' if self.problems > 1 else ''} a pass of the target{again}"


@dataclass(kw_only=True)
class MicroBatches:
    """The cut that a worker is at: the largest that fits, as far as it is known of this machine or found on the way.

    predicted: where the search begins, of a machine that nothing is known of; None begins at the whole share. release: gives
    back memory that can be done without, and tells whether there was any: a pass is tried again before it is cut.
    """

    share: int
    device: torch.device = torch.device("cpu")
    machine: Machine | None = None
    predicted: Cut | None = None
    release: Callable[[], bool] = lambda: False
    cut: Cut = field(init=False)

    def __post_init__(self) -> None:
        kept = self.machine.fits() if self.machine else None
        found = Cut(problems=kept[0], recomputed=kept[1]) if kept else self.predicted
        self.cut = found or Cut(problems=self.share)

    def within(self, work: Callable[[Cut], T]) -> T:
        """What work comes to at the largest cut that fits. Where memory ends it is done again, from the same random state."""
        before = self.cut
        cuda = [self.device] if self.device.type == "cuda" else []
        while True:
            try:
                with torch.random.fork_rng(devices=cuda):
                    done = work(self.cut)
                break
            except torch.OutOfMemoryError:
                pass
            released = self.release()
            if cuda:  # behind the handler: until then the error holds the tensors of its pass
                gc.collect()
                torch.cuda.empty_cache()
            self.cut = self.cut if released else self._smaller()
        if self.cut != before:
            log.warning("%s: more than the memory of %s; from here on %s", before, self._device, self.cut)
            if self.machine:
                self.machine.keep(self.cut.problems, recomputed=self.cut.recomputed)
        return done

    def _smaller(self) -> Cut:
        found = self.cut.smaller(self.share)
        if found is None:
            raise ValueError(
                f"{self.cut} does not fit the memory of {self._device}: fewer soft_tokens, losses with fewer passes of the "
                "target or a smaller max_tokens need less, and so do more GPUs for each worker (--gpus-per-model); more "
                "workers do not help, since each holds the whole target"
            )
        return found

    @property
    def _device(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)


def on_machine(
    trial: Trial,
    world: World,
    results: Path,
    *,
    predicted: Cut | None = None,
    held: float | None = None,
    release: Callable[[], bool] = lambda: False,
) -> MicroBatches:
    """A trial's on this machine, from what is kept of it in a folder of results, or else from what is predicted.

    held: GiB of a card that this worker may take, which are others where it holds the source too; None for what it finds.
    """
    share, asked = trial.batch // world.size, trial.resolved()
    parts = ("source", "target", "translator", "losses", "evaluator", "mixture", "own_answers", "exemplars")
    facts = {part: asked[part] for part in parts if part in asked}
    spread = {"cards": len(world.devices)} if world.beside else {}
    room = {} if held is None else {"held": round(held, 1)}
    machine = Machine(root=results, facts=_device_facts(world.device) | spread | room | facts | {"share": share})
    return MicroBatches(share=share, device=world.device, machine=machine, predicted=predicted, release=release)


def _device_facts(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"device": device.type, "gib": None}
    told = torch.cuda.get_device_properties(device)
    return {"device": told.name, "gib": round(told.total_memory / 2**30, 1)}
