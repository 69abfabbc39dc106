"""A sweep under Ray: replicas, baselines and Tune over the trials.

Stopping is decided inside a trial (raybridge.stopping), whose worker then ends by itself; Tune only schedules. Every launch
is a fresh Tune run over the trials that have no result yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.progress_reporter import TrialProgressCallback

from raybridge.cluster.replicas import ReplicaPool, start_replicas
from raybridge.cluster.trainer import Job, drive
from raybridge.config import resolve
from raybridge.data import Split
from raybridge.evaluation.answering import in_order
from raybridge.evaluation.setting import baseline_requests, problems_of
from raybridge.results import Results
from raybridge.scales import Resources
from raybridge.trial import Trial

SPLITS: tuple[Split, ...] = ("dev", "test")


def run_trials(
    trials: Sequence[Trial], *, judged: Sequence[Trial], results: Results, folder: Path, resources: Resources, stop_file: Path
) -> dict[str, str]:
    """Run trials to their ends on the connected cluster, and meanwhile the baselines of all trials that are judged.

    Raises what a baseline raised. What a trial raised is in its directory, or, where it failed before it had one, returned:
    a sentence by fingerprint.
    """
    replicas = start_replicas(resources)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="baselines") as aside:
        baselines = aside.submit(run_baselines, judged, results=results, pool=ReplicaPool(replicas), stop_file=stop_file)
        failed = _tune(trials, results=results, folder=folder, resources=resources, stop_file=stop_file) if trials else {}
        baselines.result()
    return failed


def run_baselines(trials: Sequence[Trial], *, results: Results, pool: ReplicaPool, stop_file: Path) -> None:
    """Compute the arms that need no translator, each once: what is on disk stays. If one fails, the trials stop too."""
    try:
        for trial in trials:
            for split in SPLITS:
                for _, key, requests in baseline_requests(trial, split):
                    if results.baseline(key) is None and not stop_file.exists():
                        results.write_baseline(key, in_order(pool.map(requests), problems_of(trial, split)))
    except BaseException:
        stop_file.touch()
        raise


def _tune(trials: Sequence[Trial], *, results: Results, folder: Path, resources: Resources, stop_file: Path) -> dict[str, str]:
    jobs = [
        Job(
            trial=trial.resolved(),
            resources=_plain(resources),
            root=str(results.root.resolve()),
            stop_file=str(stop_file.resolve()),
            started=0.0,
        )
        for trial in trials
    ]
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(drive, {"CPU": 0.01}),
        param_space={"job": ray.tune.grid_search(jobs)},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=resources.concurrent_trials,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=ray.tune.RunConfig(name="tune", storage_path=str(folder.resolve()), verbose=0, callbacks=[Silent()]),
    )
    errors = {trial.fingerprint: result.error for trial, result in zip(trials, tuner.fit(), strict=True) if result.error}
    return keep_failures({fingerprint: str(error).strip() for fingerprint, error in errors.items()}, results)


def keep_failures(errors: Mapping[str, str], results: Results) -> dict[str, str]:
    """Write what Ray says of trials that could not say it themselves, such as killed ones, into their directories.

    Returns a sentence for each that has no directory, by fingerprint.
    """
    without = {}
    for fingerprint, told in errors.items():
        run, why = results.find(fingerprint), told.splitlines()[-1]
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
    return tune_trial.config["job"]["trial"]["name"]
