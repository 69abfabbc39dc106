"""MLflow: the server that MLFLOW_TRACKING_URI names, or a database below the results."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from raybridge.trackers.tracker import Ended, Panel, Point, Tracked

URI = "MLFLOW_TRACKING_URI"
AT_ONCE = 1000  # metrics that MLflow takes in one call
PARAMETERS = 100  # and parameters
LONGEST = 6000  # characters of a parameter
STATUS: dict[Ended, str] = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@dataclass
class OwnRun:
    """A trial's run."""

    client: MlflowClient
    id: str

    def log(self, points: Sequence[Point]) -> None:
        """Add metrics at their steps."""
        now = int(time.time() * 1000)
        metrics = [Metric(named(name), value, now, one.step) for one in points for name, value in one.values.items()]
        for start in range(0, len(metrics), AT_ONCE):
            self.client.log_batch(self.id, metrics=metrics[start : start + AT_ONCE])

    def show(self, panels: Sequence[Panel]) -> None:
        """A picture a panel, among the artifacts: MLflow has no layout that a program could write."""
        for panel in panels:
            file = f"panels/{named(panel.title).replace('/', ' ')} {' '.join(panel.lines)}.png"
            self.client.log_figure(self.id, drawn(panel), file)

    def end(self, ended: Ended) -> None:
        """Say how it ended."""
        self.client.set_terminated(self.id, status=STATUS[ended])


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """folder: of the database, where no server is named. experiment: what the runs are found under."""

    folder: Path
    experiment: str
    name: str = "mlflow"

    def begin(self, trial: Tracked, run: str | None) -> OwnRun:
        """A trial's run with its config as parameters; one that was begun goes on."""
        if run is not None:
            self._client.update_run(run, status="RUNNING")
            return OwnRun(self._client, run)
        tags = {"raybridge.fingerprint": trial.fingerprint, "raybridge.sweep": trial.sweep}
        begun = self._client.create_run(self._experiment, run_name=trial.name, tags=tags).info.run_id
        told = [Param(named(name), str(value)[:LONGEST]) for name, value in trial.flat().items()]
        for start in range(0, len(told), PARAMETERS):
            self._client.log_batch(begun, params=told[start : start + PARAMETERS])
        self._client.log_dict(begun, dict(trial.config), "config.json")
        return OwnRun(self._client, begun)

    def attach(self, reports: Sequence[Path], sweep: str) -> None:
        """The reports as artifacts of a run of the sweep's name."""
        run = self._client.create_run(self._experiment, run_name=sweep).info.run_id
        for report in reports:
            self._client.log_artifact(run, str(report))
        self._client.set_terminated(run)

    def where(self) -> str:
        """What to type, or the server."""
        told = os.environ.get(URI)
        return told or f"mlflow ui --backend-store-uri {shlex.quote(self._uri)}"

    @property
    def _uri(self) -> str:
        return os.environ.get(URI) or f"sqlite:///{self.folder / 'mlflow.db'}"

    @cached_property
    def _client(self) -> MlflowClient:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("mlflow", "alembic"):  # a table of trials is live where these would say that a database is made
            logging.getLogger(name).setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self._uri)

    @cached_property
    def _experiment(self) -> Any:
        """The experiment's id, made if it is new; the artifacts of a database of our own stand beside it."""
        if (found := self._client.get_experiment_by_name(self.experiment)) is not None:
            return found.experiment_id
        own = None if os.environ.get(URI) else (self.folder / "artifacts").as_uri()
        return self._client.create_experiment(self.experiment, artifact_location=own)


def named(text: str) -> str:
    """A name that MLflow takes: letters, digits and _ - . / and spaces."""
    return "".join(one if one.isalnum() or one in "_-./ " else "_" for one in text)


def drawn(panel: Panel) -> Figure:
    """A panel as a figure."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    ax = figure.subplots()
    for arm, line in panel.lines.items():
        ax.plot(list(line), list(line.values()), marker=".", label=arm)
    ax.set_xlabel("step")
    ax.set_title(panel.title)
    ax.legend()
    return figure
