"""A trained translator by whatever a person has of it: a trial, a bundle, a saved folder, or a repository of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from raybridge.data import from_here
from raybridge.errors import reason_of
from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.evaluation.bundle.again import fitting
from raybridge.evaluation.bundle.verify import trial_of as trial_of_bundle
from raybridge.evaluation.identity import check_models, device_here
from raybridge.evaluation.models import Models
from raybridge.evaluation.trained import best_of, trial_of
from raybridge.interface.bridge import TrainedBridge
from raybridge.interface.kept import Kept
from raybridge.interface.saved import CARD, CONFIG, WEIGHTS, is_saved, read_saved
from raybridge.results import Results
from raybridge.results.bundle import RESULT, Bundle, is_bundle
from raybridge.results.bundle import WEIGHTS as BUNDLED_WEIGHTS
from raybridge.results.find import find_trial

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    named: str | Path,
    *,
    results: str | Path = "ray_results",
    device: str | None = None,
    on: str | None = None,
    target: str | None = None,
) -> TrainedBridge:
    """A trained translator with its frozen models, ready to be asked. Its models are loaded at the first question.

    named: a trial (its directory, name or fingerprint), a bundle, a folder that `save_pretrained` wrote, or where there is no
    such folder and no such trial a repository of the hub (owner/name). device: None for a GPU if there is one. on: the
    benchmark whose frame stands around a question, a file of evaluators/; None for the trial's own. target: another target of
    an interlingua. ValueError says what is not there, and where models are others than it was trained with.
    """
    return bridge_of(kept_of(named, results=results), Models(device or device_here(), cached_states=0), on=on, target=target)


def bridge_of(kept: Kept, models: Models, *, on: str | None = None, target: str | None = None) -> TrainedBridge:
    """The same of what was found. models: where its models are loaded. The names of these are checked, and what they are."""
    check_models(kept.trial, where=kept.name)
    return TrainedBridge(kept, models, evaluator=None if on is None else load_evaluator(on), target=target)


def kept_of(named: str | Path, *, results: str | Path = "ray_results") -> Kept:
    """What a bridge is made of, by the same names."""
    path = from_here(str(named))
    if is_bundle(path):
        return _of_bundle(Bundle(path))
    if is_saved(path):
        return read_saved(path)
    try:
        run = find_trial(str(named), Results(results))
    except ValueError as unknown:
        if path.exists() or not REPOSITORY.fullmatch(str(named)):
            raise
        return read_saved(_fetched(str(named), unknown))
    trained = best_of(run)
    return Kept(name=run.path.name, trial=trial_of(run), step=trained.step, weights=trained.weights, result=run.result() or {})


def _of_bundle(bundle: Bundle) -> Kept:
    bundle.check()
    if not bundle.has(BUNDLED_WEIGHTS):
        raise ValueError(f"{bundle.path}: its weights are not in it (it was exported --without-weights)")
    trial = trial_of_bundle(bundle)
    return Kept(
        name=bundle.name,
        trial=trial,
        step=bundle.facts["step"],
        weights=fitting(bundle.place(BUNDLED_WEIGHTS), trial),
        result=bundle.record(RESULT) if bundle.has(RESULT) else {},
    )


def _fetched(repository: str, unknown: ValueError) -> Path:
    """A repository of the hub in its cache."""
    try:
        folder = Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS, RESULT, CARD]))
    except Exception as error:  # no network, no such repository, no access: each client of HTTP has errors of its own
        raise ValueError(f"{unknown}; nor can it be fetched from the hub: {reason_of(error)}") from None
    if not is_saved(folder):
        raise ValueError(f"{repository} on the hub holds no bridge: its {CONFIG} is none of raybridge")
    return folder
