"""Two that keep what they evaluate of one trial, at the same time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest

from raybridge.arms import find
from raybridge.evaluation import answerer
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.answering import answer
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.models import Models
from raybridge.results import TrialRun

pytestmark = pytest.mark.usefixtures("short")
NAMES = ("source", "target", "no_context", "cascade", "joint", "bridged", "shuffled", "mean")

ARMS = [find(name) for name in NAMES]


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["seconds", "identity"], errors="ignore").reset_index(drop=True)


def loaded(trial) -> Local:
    """One that answers by models of its own."""
    models = Models("cpu")
    for name in trial.models:
        models.load(name)
    return Local(models)


def test_two_that_evaluate_one_trial_end_with_equal_rows_and_compute_them_once(keeper, trial, monkeypatch):
    asked, started = [], threading.Barrier(2)

    def slowly(request, models, weights=None):
        asked.append((request.arms, tuple(request.setting.ids)))
        time.sleep(0.05)
        return answer(request, models, weights)

    monkeypatch.setattr(answerer, "answer", slowly)

    def evaluate(one: Keeper) -> pd.DataFrame:
        started.wait()
        return one.rows(ARMS)

    keepers = [replace(keeper, answerer=loaded(trial)) for _ in range(2)]
    with ThreadPoolExecutor() as both:
        one, other = both.map(evaluate, keepers)
    pd.testing.assert_frame_equal(plain(one), plain(other))
    assert len(asked) == len(set(asked))
    run = keeper.trained.run
    assert set(run.evals()["arm"]) == {arm.name for arm in ARMS if not arm.frozen}
    assert not list((keeper.results.root / "partial").glob("*"))
    assert not list(run.path.glob(".*"))


def test_two_that_add_other_arms_to_one_trial_lose_none(keeper, trial, monkeypatch):
    """Each reads the rows that are there, adds its own and writes them: the second must read what the first wrote."""
    arms, started, read = [find("bridged"), find("mean")], threading.Barrier(2), TrialRun.samples

    def slowly(self, *place, **how):
        table = read(self, *place, **how)
        time.sleep(0.2)
        return table

    monkeypatch.setattr(TrialRun, "samples", slowly)

    def evaluate(arm, one: Keeper) -> None:
        started.wait()
        one.rows([arm])

    keepers = [replace(keeper, answerer=loaded(trial)) for _ in range(2)]
    with ThreadPoolExecutor() as both:
        list(both.map(evaluate, arms, keepers))
    assert set(keeper.trained.run.evals()["arm"]) == {"bridged", "mean"}
    assert set(keeper.kept(arms[0])["arm"]) == {"bridged"}
    assert set(keeper.kept(arms[1])["arm"]) == {"mean"}
