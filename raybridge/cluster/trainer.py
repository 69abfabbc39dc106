"""One experiment under Ray Train: its driver, and what runs in each of its workers.

What is run is the experiment's own (training.worker.Engine). Its checkpoints and its result.json are the truth: whoever is
started again, worker, driver or machine, goes on from there. Ray is told numbers only.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Iterator
from typing import Any, TypedDict

import ray
import ray.train
import ray.tune
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.trainable.function_trainable import wrap_function

from raybridge.analysis.plan import unfinished
from raybridge.cluster import naming
from raybridge.cluster.failures import LOST, refused, why_refused
from raybridge.cluster.gauges import MemoryGauge
from raybridge.cluster.imports import BEGAN
from raybridge.cluster.replicas import ReplicaPool, find_replicas
from raybridge.cluster.reports import handed_on
from raybridge.cluster.spare_workers import started_ahead
from raybridge.config import rebuild
from raybridge.results import Results, TrialRun
from raybridge.results.launch import Begun
from raybridge.results.sweep_folder import SweepFolder
from raybridge.scales import DRIVER_CPUS, Resources
from raybridge.training.worker import Worker, engine_of
from raybridge.trial import Workload
from raybridge.world import LONGEST, World, agreed

STARTS = 3  # of a trial's workers, where Train gives up at once: it repeats no loss in the moment in which they are handed work

log = logging.getLogger(__name__)


class Job(TypedDict):
    """What travels to an experiment's driver and workers: plain JSON.

    packages: where its classes may come from, as the launcher knows them. results: absolute, for Ray's processes stand
    elsewhere. replicas: the names of those that its launch started. started: when its driver began; waited: whether the
    devices of its workers were with others then.
    """

    name: str
    experiment: dict[str, Any]
    packages: list[str]
    resources: dict[str, Any]
    results: str
    sweep: str
    replicas: list[str]
    started: float
    waited: bool


def folder_of(job: Job) -> SweepFolder:
    """The folder of the sweep that asks for it."""
    return Results(job["results"]).sweep(job["sweep"])


def unpack(job: Job) -> tuple[Workload, Resources, TrialRun]:
    """What a job tells of, and the experiment's directory, made if it is new."""
    experiment: Workload = rebuild(job["experiment"], job["packages"])
    run = Results(job["results"]).open_trial(
        name=experiment.name,
        fingerprint=experiment.fingerprint,
        config=experiment.resolved(),
        provenance=engine_of(experiment).provenance(experiment),
    )
    return experiment, rebuild(job["resources"]), run


def drive(config: dict[str, Job]) -> None:
    """Run one experiment to its end: what Tune calls. What another sweep runs is waited for, and reused once it is complete.

    What a complete one has lost is computed again.
    """
    job = config["job"]
    stopped = folder_of(job).stopped
    if stopped():
        return
    experiment, resources, run = unpack(job)
    with run.launch.held(unless=stopped) as held:
        if not (held and unfinished(experiment, run)):
            return
        run.launch.begin()
        began = time.time()
        if not run.complete and run.trained() is None:
            job["started"], job["waited"] = began, taken(resources)
            fit(experiment, resources, job)
        elif not run.complete:
            run.launch.write_timing(Begun(started=began, first_step=None))
        left = unfinished(experiment, run) and (run.complete or run.trained() is not None)
        if left and not run.launch.failed() and not stopped():
            conclude(experiment, run, job)


def taken(resources: Resources) -> bool:
    """Whether the devices of all its workers are with others now."""
    return bool(resources.gpus) and ray.available_resources().get("GPU", 0) < resources.gpus


def conclude(experiment: Workload, run: TrialRun, job: Job) -> None:
    """Do what is left once its workers have ended. They have given their devices back: the next trial's start meanwhile."""
    before = run.complete
    with logged(run, who="driver"):
        try:
            engine_of(experiment).conclude(experiment, run, ReplicaPool(find_replicas(job["replicas"])))
        except Exception as error:
            if not refused(error, workers=1):
                raise
            _say_why(run, why_refused(error))
        else:
            if not before:
                run.launch.end(time.time())


class Driver(wrap_function(drive)):  # type: ignore[misc]
    """`drive` as an actor that the dashboard calls by its trial."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Job]) -> ray.tune.PlacementGroupFactory:
        """What it takes itself: next to nothing, for its workers do the work."""
        return ray.tune.PlacementGroupFactory([{"CPU": DRIVER_CPUS}])

    def __repr__(self) -> str:
        return f"{self.config['job']['name']} driver"


def fit(experiment: Workload, resources: Resources, job: Job) -> None:
    """Run its workers to their end, again where one died: by Train, and here where it died as Train handed it its work."""
    for left in reversed(range(STARTS)):
        try:
            _trainer(experiment, resources, job, again=left < STARTS - 1).fit()
        except Exception as error:
            if not left or not isinstance(getattr(error, "controller_failure", error), LOST):
                raise
        else:
            return
        finally:
            handed_on()


def _trainer(experiment: Workload, resources: Resources, job: Job, *, again: bool) -> TorchTrainer:
    environment, ahead = ({}, []) if again else started_ahead(experiment.ENGINE, resources)
    return TorchTrainer(
        train_worker,
        train_loop_config=dict(job),
        torch_config=TorchConfig(timeout_s=LONGEST),
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=bool(resources.gpus_per_model),
            resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_model},
        ),
        run_config=RunConfig(
            name=f"{experiment.name}-{experiment.fingerprint[:8]}",
            storage_path=str(folder_of(job).train_path),
            callbacks=[TuneReportCallback(), *naming.callbacks(experiment.name), *ahead],
            worker_runtime_env=environment,
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=2),
        ),
    )


def train_worker(job: Job) -> None:
    """Run this worker's part of an experiment. An error of its own is written down and ends it; trying again would not help.

    One that this worker alone knows of is raised as well: Train then ends the others, who may be waiting for it, and
    starts all of them again, who find it written down.
    """
    experiment, resources, run = unpack(job)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    with logged(run, who=f"worker {rank}", level=logging.ERROR if rank else logging.INFO):
        if run.launch.failed():
            return
        workers = context.get_world_size()
        try:
            _run(experiment, resources, run, job)
        except Exception as error:
            if not refused(error, workers=workers):
                logging.getLogger("raybridge").exception("another try may mend it")
                raise
            _say_why(run, why_refused(error))
            if workers > 1 and not agreed(error):
                raise


def _say_why(run: TrialRun, why: str) -> None:
    """Leave a sentence for the command and the traceback for the log, as far as the disk takes them."""
    with contextlib.suppress(OSError):
        run.launch.fail(why, traceback=traceback.format_exc())
        logging.getLogger("raybridge").exception(why)


@contextlib.contextmanager
def logged(run: TrialRun, *, who: str, level: int = logging.INFO) -> Iterator[None]:
    """Write what raybridge logs and Python warns of to train.log, from a level on."""
    handler = logging.FileHandler(run.launch.log, encoding="utf8", delay=True)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {who} %(levelname)s %(message)s"))
    handler.setLevel(level)
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


def _run(experiment: Workload, resources: Resources, run: TrialRun, job: Job) -> None:
    """Run this worker's part; the first worker writes down when it did what."""
    stopped = folder_of(job).stopped
    context = ray.train.get_context()
    device, *beside = ray.train.torch.get_devices() if resources.gpus_per_model else [torch.device("cpu")]
    world = World(rank=context.get_world_rank(), size=context.get_world_size(), device=device, beside=tuple(beside))
    # Asked while it waited for its devices. Of two who look by themselves one may go on, and wait for the other for hours.
    if world.agree(stopped()):
        return
    torch.set_num_threads(resources.threads)
    if context.get_world_rank() == 0:
        told = "its workers are together, %.1f s after its %s; this process began to import %.1f s ago"
        since = "devices were free" if job["waited"] else "driver began"
        log.info(told, time.time() - _began(job, until=time.time()), since, time.time() - BEGAN)
    first_step: list[float] = []
    memory = MemoryGauge(f"{experiment.name} worker {world.rank}")

    def report(row: dict[str, Any]) -> None:
        first_step.append(time.time())
        memory.look([device, *beside])
        ray.train.report({key: value for key, value in row.items() if value is not None})

    worker = Worker(
        run=run,
        world=world,
        report=report,
        interrupted=stopped,
        answerer=lambda: ReplicaPool(find_replicas(job["replicas"])),
        states_budget=resources.states_budget,
    )
    outcome = engine_of(experiment).run(experiment, worker)
    if world.rank == 0 and outcome != "interrupted":
        now, began = time.time(), first_step[0] if first_step else None
        started = _began(job, until=began or now)
        run.launch.write_timing(Begun(started=started, first_step=began, trained=now))
        if outcome == "complete":
            run.launch.end(now)


def _began(job: Job, *, until: float) -> float:
    """When its driver began; where that waited for devices, when it was given them."""
    if not job["waited"]:
        return job["started"]
    return given_back(Results(job["results"]), since=job["started"], until=until)


def given_back(results: Results, *, since: float, until: float) -> float:
    """When the last trial gave its devices back between two times; the first of them where none did."""
    told = [run.launch.begun() for run in results.trials(broken={})]
    return max((one.trained for one in told if one and one.trained and since < one.trained < until), default=since)
