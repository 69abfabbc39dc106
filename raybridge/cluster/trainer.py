"""One trial under Ray Train: its driver, and what runs in each of its workers.

A trial's own checkpoints and its result.json are the truth: whoever is started again, worker, driver or machine, goes on
from there. Ray is told numbers only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import ray.train
import ray.tune
import torch
from ray.exceptions import RayTaskError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from raybridge.cluster.replicas import ReplicaEvaluations, ReplicaPool, find_replicas
from raybridge.config import rebuild
from raybridge.console import sentence
from raybridge.evaluation.provenance import provenance_of
from raybridge.models import lm
from raybridge.results import Results, TrialRun
from raybridge.results.launch import Timing
from raybridge.scales import Resources
from raybridge.training.loop import train
from raybridge.trial import Trial
from raybridge.world import World

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # trying again would not help


class Job(TypedDict):
    """What travels to a trial's driver and workers: plain JSON."""

    trial: dict[str, Any]
    resources: dict[str, Any]
    root: str
    stop_file: str
    started: float


def open_run(trial: Trial, root: str) -> TrialRun:
    """The trial's directory, made if it is new."""
    return Results(root).open_trial(
        name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance=provenance_of(trial)
    )


def drive(config: dict[str, Job]) -> None:
    """Run one trial to its end: what Tune calls."""
    job = config["job"]
    trial: Trial = rebuild(job["trial"])
    resources: Resources = rebuild(job["resources"])
    if Path(job["stop_file"]).exists():
        return
    run = open_run(trial, job["root"])
    run.launch.begin()
    job["started"] = time.time()
    TorchTrainer(
        train_worker,
        train_loop_config=dict(job),
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=bool(resources.gpus_per_worker),
            resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
        ),
        run_config=RunConfig(
            name=f"{trial.name}-{trial.fingerprint[:8]}",
            storage_path=str(Path(job["stop_file"]).parent.resolve() / "train"),
            callbacks=[TuneReportCallback()],
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=2),
        ),
    ).fit()


def train_worker(job: Job) -> None:
    """Run this worker's part of a trial. A refusal is written down and ends the trial; trying again would not help."""
    trial: Trial = rebuild(job["trial"])
    resources: Resources = rebuild(job["resources"])
    run = open_run(trial, job["root"])
    with logged(run, rank=ray.train.get_context().get_world_rank()):
        try:
            _train_worker(trial, resources, run, job)
        except (ValueError, RayTaskError) as error:
            _say_why(run, str(error).strip().splitlines()[-1])
        except OSError as error:
            _say_why(run, sentence(error))
            if error.errno not in UNWRITABLE:
                raise


def _say_why(run: TrialRun, why: str) -> None:
    """Leave a sentence for the command and the traceback for the log, as far as the disk takes them."""
    with contextlib.suppress(OSError):
        run.launch.fail(why, traceback=traceback.format_exc())
        logging.getLogger("raybridge").exception(why)


@contextlib.contextmanager
def logged(run: TrialRun, *, rank: int) -> Iterator[None]:
    """Write what raybridge logs and Python warns of to train.log: all of the first worker's, failures of the others."""
    handler = logging.FileHandler(run.launch.log, encoding="utf8", delay=True)
    handler.setFormatter(logging.Formatter(f"%(asctime)s worker {rank} %(levelname)s %(message)s"))
    handler.setLevel(logging.ERROR if rank else logging.INFO)
    loggers = [logging.getLogger("raybridge"), logging.getLogger("py.warnings")]
    before = [logger.level for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


def _train_worker(trial: Trial, resources: Resources, run: TrialRun, job: Job) -> None:
    torch.set_num_threads(resources.threads)
    context = ray.train.get_context()
    device = ray.train.torch.get_device() if resources.gpus_per_worker else torch.device("cpu")
    world = World(rank=context.get_world_rank(), size=context.get_world_size(), device=device)
    source = lm.load(trial.source, device=device)
    target = source if trial.source == trial.target else lm.load(trial.target, device=device)
    first_step: list[float] = []

    def report(row: dict[str, Any]) -> None:
        first_step.append(time.time())
        ray.train.report({key: value for key, value in row.items() if value is not None})

    outcome = train(
        trial,
        run=run,
        source=source,
        target=target,
        world=world,
        evaluations=ReplicaEvaluations(trial, ReplicaPool(find_replicas(resources.replicas))),
        report=report,
        interrupted=Path(job["stop_file"]).exists,
    )
    if world.rank == 0 and outcome == "complete":
        began = first_step[0] if first_step else None
        run.launch.write_timing(Timing(started=job["started"], first_step=began, ended=time.time()))
