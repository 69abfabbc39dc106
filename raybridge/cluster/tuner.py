"""A sweep under Ray: replicas, baselines and Tune over the trials.

A trial is anything that `raybridge.trial.Workload` describes. Stopping is decided inside it, whose worker then ends by
itself; Tune only schedules. Every launch is a fresh Tune run over the trials that have no result yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pickle import UnpicklingError
from typing import Any

import ray.tune
from ray.tune.progress_reporter import TrialProgressCallback

from raybridge.cluster.failures import last_line, why_lost
from raybridge.cluster.gauges import gauged
from raybridge.cluster.machine import card
from raybridge.cluster.nodes import check_nodes
from raybridge.cluster.replicas import ReplicaPool, names_of, start_replicas
from raybridge.cluster.trainer import Driver, Job
from raybridge.config import packages_of, resolve
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.setting import BATCH, ON_GPU, Setting, frozen_arms
from raybridge.results import Results
from raybridge.results.states import States
from raybridge.results.sweep_folder import SweepFolder
from raybridge.scales import Resources
from raybridge.training.worker import by_engine, engine_of
from raybridge.trial import Workload


def run_trials(
    trials: Sequence[Workload], *, judged: Sequence[Workload], results: Results, folder: SweepFolder, resources: Resources
) -> dict[str, str]:
    """Run trials to their ends on the connected cluster, and meanwhile the baselines of all trials that are judged.

    Raises what a node lacks, before anything starts, and what a baseline raised. What a trial raised is in its directory, or,
    where it failed before it had one, returned: a sentence by fingerprint. A trial is evaluated where its engine says so:
    without any such setting there are no replicas.
    """
    check_nodes(judged, results=results, resources=resources)
    settings = [setting for trial in judged for setting in engine_of(trial).settings(trial)]
    replicas = names_of(resources.replicas, launch=folder.name) if settings else []
    kept = results.kept_states(resources.states_budget)
    pool = ReplicaPool(start_replicas(replicas, resources, kept, share_of_replica(trials, resources, kept)))
    with (
        gauged(judged, results, sweep=folder.name),
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="baselines") as aside,
    ):
        begins = [trial for trial in trials if not ((run := results.find(trial.fingerprint)) and run.complete)]
        prepared = partial(prepare, begins, pool, device=resources.device, kept=kept, results=results)
        batch = ON_GPU if resources.gpus_per_model else BATCH
        baselines = aside.submit(
            run_baselines, settings, results=results, pool=pool, folder=folder, batch=batch, first=prepared
        )
        failed = _tune(trials, replicas, results=results, folder=folder, resources=resources) if trials else {}
        baselines.result()
    return failed


def share_of_replica(trials: Sequence[Workload], resources: Resources, kept: States) -> float | None:
    """GiB of a GPU that a replica may take beside a worker of any of these; None for as much as it finds."""
    if not resources.gpus_per_model:
        return None
    told = dict(workers=resources.workers, cards=resources.gpus_per_model)
    gib = card()  # nvidia-smi is asked once
    shares = [engine.replica_share(some, **told, card=gib, kept=kept) for engine, some in by_engine(trials)]
    return min((share for share in shares if share is not None), default=None)


def prepare(trials: Sequence[Workload], pool: ReplicaPool, *, device: str, kept: States, results: Results) -> None:
    """Compute what trials share, which their workers would wait for behind the baselines."""
    for engine, some in by_engine(trials):
        engine.prepare(some, pool, device=device, kept=kept, results=results)


def run_baselines(
    settings: Sequence[Setting],
    *,
    results: Results,
    pool: ReplicaPool,
    folder: SweepFolder,
    batch: int = BATCH,
    first: Callable[[], None] = lambda: None,
) -> None:
    """Compute the arms that need no translator, each once: what is on disk stays. If one fails, the trials stop too.

    batch: problems a request. first: what is asked of the pool before them.
    """
    try:
        first()
        for setting in settings:
            keeper = Keeper(setting=setting, results=results, answerer=pool, batch=batch)
            for arm in frozen_arms(setting.split):
                if not folder.stopped():
                    keeper.rows([arm])
    except BaseException:
        folder.stop()
        raise


def _tune(
    trials: Sequence[Workload], replicas: Sequence[str], *, results: Results, folder: SweepFolder, resources: Resources
) -> dict[str, str]:
    jobs = [
        Job(
            name=trial.name,
            experiment=trial.resolved(),
            packages=list(packages_of(trial)),
            resources=_plain(resources),
            results=str(results.root.resolve()),
            sweep=folder.name,
            replicas=list(replicas),
            started=0.0,
            waited=False,
        )
        for trial in trials
    ]
    tuner = ray.tune.Tuner(
        Driver,
        param_space={"job": ray.tune.grid_search(jobs)},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=resources.concurrent_trials + resources.ahead,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=ray.tune.RunConfig(
            name="tune", storage_path=str(folder.tune_path.resolve()), verbose=0, callbacks=[Silent()]
        ),
    )
    try:
        errors = {trial.fingerprint: result.error for trial, result in zip(trials, tuner.fit(), strict=True) if result.error}
    except (EOFError, UnpicklingError):  # a full disk has cut off what Tune kept of an error: the trials say themselves why
        errors = {}
    return keep_failures({fingerprint: str(error) for fingerprint, error in errors.items()}, results)


def keep_failures(errors: Mapping[str, str], results: Results) -> dict[str, str]:
    """Write what Ray says of trials that could not say it themselves, such as killed ones, into their directories.

    Returns a sentence for each that has no directory, by fingerprint.
    """
    without = {}
    for fingerprint, told in errors.items():
        run, why = results.find(fingerprint), why_lost(told) or last_line(told)
        if run is None:
            without[fingerprint] = why
        elif not run.complete and not run.launch.failed():
            run.launch.fail(why, traceback=told)
    return without


class Silent(TrialProgressCallback):
    """In place of Tune's own lines: the live table says what happens."""

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        """Say nothing."""

    def on_trial_error(self, *args: Any, **info: Any) -> None:
        """Say nothing."""

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        """Say nothing."""


def _plain(resources: Resources) -> dict[str, Any]:
    plain = resolve(resources)
    assert isinstance(plain, dict)
    return plain


def _name(tune_trial: ray.tune.experiment.Trial) -> str:
    """A name that a person recognises: the trial's own."""
    return tune_trial.config["job"]["name"]
