"""Weights & Biases. WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE=offline are its own and hold."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

from raybridge.trackers.tracker import Ended, Panel, Point, Tracked

PROJECT = "raybridge"
WITHOUT = ("offline", "disabled")  # modes that need no key
QUIET = {"silent": True, "console": "off"}  # the command's own lines are in its log


@dataclass
class OwnRun:
    """A trial's run. Its steps are a value of their own: W&B drops what comes at a step before the last."""

    run: Any

    @property
    def id(self) -> str:
        """W&B's."""
        return self.run.id

    def log(self, points: Sequence[Point]) -> None:
        """Add values, each against `step`."""
        for point in points:
            self.run.log({"step": point.step, **point.values})

    def show(self, panels: Sequence[Panel]) -> None:
        """A chart with both lines, as a panel of its own."""
        for panel in panels:
            lines = list(panel.lines.values())
            chart = wandb.plot.line_series(
                xs=[list(line) for line in lines],
                ys=[list(line.values()) for line in lines],
                keys=list(panel.lines),
                title=panel.title,
                xname="step",
            )
            self.run.log({f"panels/{panel.title.replace('/', '_')}_{'_'.join(panel.lines)}": chart})

    def end(self, ended: Ended) -> None:
        """Send the rest; a trial that failed has failed there too."""
        self.run.finish(exit_code=1 if ended == "failed" else 0)


@dataclass(frozen=True, kw_only=True)
class WeightsAndBiases:
    """folder: where W&B keeps its own files, all of them where it is offline."""

    folder: Path
    name: str = "wandb"

    def __post_init__(self) -> None:
        if not offline() and not wandb.login(prompt=False):  # it would ask, in the middle of a sweep
            raise ValueError("Weights & Biases knows no key here; type `wandb login`, or set WANDB_MODE=offline")

    def begin(self, trial: Tracked, run: str | None) -> OwnRun:
        """A trial's run in the group of its sweep, with its config; one that was begun goes on."""
        begun = self._begin(id=run or uuid.uuid4().hex[:12], name=trial.name, group=trial.sweep, config=dict(trial.config))
        begun.define_metric("step")
        begun.define_metric("*", step_metric="step")
        return OwnRun(begun)

    def attach(self, reports: Sequence[Path], sweep: str) -> None:
        """The reports as an artifact of a run of the sweep's name, and a page to look at."""
        run = self._begin(name=sweep, group=sweep, job_type="report")
        artifact = wandb.Artifact(f"{sweep}-report", type="report")
        for report in reports:
            artifact.add_file(str(report))
            if report.suffix == ".html":
                run.log({report.stem: wandb.Html(report.read_text(encoding="utf8"))})
        run.log_artifact(artifact)
        run.finish()

    def where(self) -> str:
        """Where the runs are; of an offline one what to type to send them."""
        if offline():
            return f"wandb sync --sync-all, in {self.folder}"
        return f"project {os.environ.get('WANDB_PROJECT', PROJECT)} of Weights & Biases"

    def _begin(self, **told: Any) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(self.folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(**QUIET),
            **told,
        )


def offline() -> bool:
    """Whether W&B is told to send nothing."""
    return os.environ.get("WANDB_MODE") in WITHOUT
