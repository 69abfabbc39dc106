"""Tiny trials that were really trained and really evaluated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from local_runs import run_trial
from quick import quick_start, short_answers

from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import frozen_arms, setting_of
from raybridge.results import Results
from raybridge.scales import POCKET
from raybridge.trial import Trial


def tiny(soft_tokens: int) -> Trial:
    translator = replace(POCKET.trial.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=4, warmup=1, batch=4, eval_every=4, dev_problems=8, test_problems=8)
    return replace(POCKET.trial, name=f"t_{soft_tokens}tok", translator=translator, **cut)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Two complete trials with every baseline, and one that never ran."""
    results, models = Results(tmp_path_factory.mktemp("results")), Models("cpu")
    trials = [tiny(2), tiny(64), tiny(4)]
    with short_answers(), quick_start():
        for trial in trials[:2]:
            run_trial(trial, results, models)
            setting = setting_of(trial, "test")
            for arm in frozen_arms("test"):
                if results.baseline(setting.key(arm)) is None:
                    rows = [row for request in setting.requests((arm,)) for row in answer(request, models)]
                    results.write_baseline(setting.key(arm), in_order(rows, setting.problems))
    return {trial.fingerprint: trial.name for trial in trials}, results
