"""A trial of a few problems as a sweep leaves it, its bundle, and a bundle written over by somebody who knows how."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from opened import plain
from safetensors.torch import save

from raybridge.arms import find
from raybridge.config import resolve
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.bundle.export import export, title_of
from raybridge.evaluation.bundle.tables import tables_of
from raybridge.evaluation.identity import sealed
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import setting_of
from raybridge.evaluation.trained import Trained
from raybridge.models.hardening import Hardening
from raybridge.results import Results, TrialRun
from raybridge.results.bundle import SUMS, Bundle
from raybridge.scales import POCKET
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.weights import FILE, copy_of, with_checksums
from raybridge.trial import Trial

ARMS = {
    "dev": ("target", "bridged", "shuffled"),
    "test": ("source", "target", "no_context", "cascade", "bridged", "bridged_with_text", "shuffled"),
}
HARD = ("target", "bridged")  # decoded on test with a hardening as well
HARDENED = Hardening(ban_end=2)
PROVENANCE = {
    "commit": {"id": "0123456789", "dirty": False},
    "versions": {"torch": "2.11"},
    "hardware": {"machine": "x86_64", "cores": 2, "gpus": []},
}


def small(**changes: object) -> Trial:
    """Four problems of each split."""
    few = replace(POCKET.trial, name="tiny", steps=8, warmup=2, batch=4, eval_every=4, dev_problems=4, test_problems=4)
    return sealed(replace(few, translator=PromptTuning(soft_tokens=4), **changes), device="cpu")


def finished(root: Path, trial: Trial) -> TrialRun:
    """The trial, complete, with an untrained translator and the rows of every arm of ARMS."""
    torch.manual_seed(0)
    results, models = Results(root), Models("cpu")
    source, target = models.load(trial.source), models.load(trial.target)
    weights = copy_of(trial.translator.build(source.width, target.width, target_rms=target.embedding_rms))
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance=PROVENANCE)
    for split, step in (("dev", 4), ("dev", 8), ("test", 4)):
        trained = Trained(run=run, step=step, weights=weights)
        setting = setting_of(trial, split)
        keeper = Keeper(setting=setting, results=results, answerer=Local(models), trained=trained, timed=0)
        keeper.rows([find(name) for name in ARMS[split]])
        run.append_metrics({"step": step, "loss": 1.0 / step})
    hard = replace(setting_of(trial, "test"), hardening=HARDENED)
    trained = Trained(run=run, step=4, weights=weights)
    keeper = Keeper(setting=hard, results=results, answerer=Local(models), trained=trained, timed=0)
    keeper.rows([find(name) for name in HARD])
    results.note_evaluation({"decoding": resolve(HARDENED)})
    run.write_checkpoint(4, with_checksums({FILE: save(weights)}))
    evals = run.evals()
    dev = evals[(evals["split"] == "dev") & (evals["arm"] == "bridged") & (evals["reading"] == "strict")]
    peak, final = dev.set_index("step")["accuracy"].loc[[4, 8]]
    names = ["accuracy", "n", "low", "high", "nll"]
    test = evals[evals["split"] == "test"]
    ended = {"name": trial.name, "fingerprint": trial.fingerprint, "steps": 8, "stopped": "finished", "reason": "all 8 steps"}
    scored = {"peak": peak, "peak_step": 4, "best_step": 4, "final": final, "degradation": peak - final}
    told = {arm: part.set_index("reading")[names].to_dict("index") for arm, part in test.groupby("arm")}
    run.finish({**ended, **scored, "shuffled_dev_at_peak": 0.0, "test": told})
    return run


def once(base: Path) -> tuple[TrialRun, Path]:
    """The trial and its bundle, made once for all tests that share a folder."""
    root, path = base / "bundled" / "ray_results", base / "bundled" / "bundle"
    if not path.exists():
        assert export(finished(root, small()), path) == []
    (run,) = Results(root).trials()
    return run, path


def made_to_fit(bundle: Path) -> None:
    """Make tables and checksums fit the rows, as who is thorough would."""
    signed(bundle)
    here = Bundle(bundle)
    rows, step = {place: here.rows(place) for place in here.places}, here.facts["step"]
    for name, content in tables_of(rows, best=step, title=title_of(here.name, step), golds=here.facts["golds"]).items():
        (bundle / name).write_bytes(content)
    signed(bundle)


def edited(file: Path, *path: str, value: object) -> None:
    """Change a value of a JSON file."""
    told = plain(file)
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    file.write_text(json.dumps(told))


def signed(bundle: Path) -> None:
    """Write SHA256SUMS anew, as who tampers with a file would."""
    files = sorted(file for file in bundle.rglob("*") if file.is_file() and file.name != SUMS)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(bundle).as_posix()}\n" for file in files]
    (bundle / SUMS).write_text("".join(lines))


def rewritten(file: Path, arm: str, **values: object) -> str:
    """Change a row of a table: the first problem of an arm, whose id is returned."""
    rows = pd.read_parquet(file)
    at = rows.index[rows["arm"] == arm][0]
    for name, value in values.items():
        rows.loc[at, name] = value
    rows.to_parquet(file)
    return str(rows.loc[at, "problem"])
