"""The evaluations of one trial while it trains: asked for at a point, and waited for at the next."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace

import pandas as pd
from torch import Tensor

from raybridge.data import Split
from raybridge.evaluation.answerer import Answerer, Rows
from raybridge.evaluation.answering import in_order
from raybridge.evaluation.conditioning import LOOKED_AT
from raybridge.evaluation.setting import problems_of, setting_of, trial_arms
from raybridge.trial import Trial


class Evaluations:
    """Evaluations of a trial's translator by the arms that every trial is judged by."""

    def __init__(self, trial: Trial, answerer: Answerer) -> None:
        self.trial, self.answerer = trial, answerer
        self._asked: dict[tuple[int, Split], Future[Rows]] = {}

    def submit(self, *, step: int, split: Split, weights: Mapping[str, Tensor]) -> None:
        """Ask for an evaluation of these weights."""
        requests = setting_of(self.trial, split).requests(trial_arms(self.trial.translator, split))
        self._asked[step, split] = self.answerer.start(requests, weights)

    def look(self, weights: Mapping[str, Tensor]) -> pd.DataFrame:
        """What these weights' soft tokens of some dev problems look like from inside: rows of conditioning.parquet."""
        setting = setting_of(self.trial, "dev")
        return pd.DataFrame(self.answerer.look(replace(setting, problems=setting.problems[:LOOKED_AT]), weights))

    def collect(self, *, step: int, split: Split) -> pd.DataFrame:
        """Wait for it: sample rows, arm by arm in the order of the problems."""
        return in_order(self._asked.pop((step, split)).result(), problems_of(self.trial, split))
