"""Which trackers there are, and one of them built where it is asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from raybridge.results import Results
from raybridge.trackers.tracker import Tracker


class LogTo(StrEnum):
    """What `--log-to` may say."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    MLFLOW = "mlflow"


def built(kind: LogTo, results: Results, *, sweep: str) -> Tracker:
    """A tracker. ValueError where its package is not installed, with what to type."""
    folder = results.tracked(kind)
    try:
        if kind is LogTo.TENSORBOARD:
            from raybridge.trackers.tensorboard import TensorBoard

            return TensorBoard(folder=folder)
        if kind is LogTo.WANDB:
            from raybridge.trackers.wandb import WeightsAndBiases

            return WeightsAndBiases(folder=folder)
        if kind is LogTo.MLFLOW:
            from raybridge.trackers.mlflow import MLflow

            return MLflow(folder=folder, experiment=sweep)
    except ImportError as error:
        raise ValueError(f"--log-to {kind}: {error}; pip install 'raybridge[{kind}]'") from error
    assert_never(kind)
