"""The frozen models of a process: who is not wanted any more is gone."""

import weakref
from dataclasses import replace

from asking import requests_of

from raybridge.evaluation import models as held
from raybridge.evaluation.answering import answer


def test_a_model_that_is_let_go_of_leaves_its_memory(trial, monkeypatch):
    """What was remembered of its prompts kept it alive: a replica held three models of 7B where it knew of two."""
    monkeypatch.setattr(held, "nearly_full", lambda device: True)
    (request, *_) = requests_of(replace(trial, dev_problems=2), "dev", "source")
    models = held.Models("cpu")
    source = weakref.ref(models.load(trial.source).model)
    answer(request, models)
    models.hold([trial.target])
    assert source() is None
