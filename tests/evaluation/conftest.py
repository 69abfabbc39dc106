"""An evaluation to keep, of a trial that is not trained."""

from dataclasses import replace

import pytest
import torch
from quick import short_answers

from raybridge.evaluation import cramming
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.setting import setting_of
from raybridge.evaluation.trained import Trained
from raybridge.results import Results
from raybridge.translators.weights import copy_of


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Of optimising vectors for a problem: enough to see that they learn."""
    monkeypatch.setattr(cramming, "STEPS", 12)


@pytest.fixture
def short():
    """What answers say is of no matter."""
    with short_answers():
        yield


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "ray_results")


@pytest.fixture
def keeper(trial, models, results):
    """An evaluation of untrained weights at step 4 on six dev problems, without costs."""
    torch.manual_seed(0)
    source, target = models.load(trial.source), models.load(trial.target)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms)
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    setting = setting_of(trial, "dev")
    return Keeper(
        setting=replace(setting, problems=setting.problems[:6]),
        results=results,
        answerer=Local(models),
        trained=Trained(run=run, step=4, weights=copy_of(module)),
        batch=3,
        timed=0,
    )
