"""The rows of a setting's arms: what is on disk is read, the rest is computed, and all of it is kept.

Rows of arms that need no translator are kept as baselines, those of a translator with its trial. Every batch is written
down as it is done, so a run that is killed goes on from there, and no more than a batch is in memory meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor

from raybridge.analysis.measures import stacked, summarised
from raybridge.arms import Arm, find
from raybridge.data import Problem
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.answering import in_order
from raybridge.evaluation.costs import BATCHED, spread
from raybridge.evaluation.setting import BATCH, Request, Setting
from raybridge.evaluation.trained import Trained
from raybridge.results import Results
from raybridge.results.baselines import stands_for


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """One setting, who answers it, and where its rows are kept.

    batch: problems a request; at_least: rows of one, for which a request of few arms has more problems. timed: how many
    problems are timed one by one; 0 measures no costs. tell(arm, new): so many more problems are done.
    """

    setting: Setting
    results: Results
    answerer: Answerer
    trained: Trained | None = None
    batch: int = BATCH
    at_least: int = 0
    timed: int = 0
    tell: Callable[[Arm, int], None] = lambda arm, done: None

    def rows(self, arms: Sequence[Arm]) -> pd.DataFrame:
        """Sample rows of these arms on the setting's problems, arm by arm in the order of the problems."""
        handed = [find(name) for arm in arms for name in arm.passes_on]
        order = sorted(dict.fromkeys([*handed, *arms]), key=lambda arm: bool(arm.passes_on))
        found: dict[str, pd.DataFrame] = {}
        for group, missing in self._todo(order):
            if missing:
                self._compute_once(group, missing, found)
            for arm in group:
                if not missing:
                    self.tell(arm, len(self.setting.problems))
                found[arm.name] = self.kept(arm)
                assert len(found[arm.name]) == len(self.setting.problems), f"{arm.name} was not kept"
                if arm.frozen and self.results.baseline(self.setting.key(arm), text=False) is None:
                    self._keep(arm, found[arm.name])  # gathered from others: who looks for this setting's key finds it
        for arm in arms:
            if self.timed and not arm.crams and not _timed(found[arm.name]):
                found[arm.name] = self._with_costs(arm, found[arm.name])
        return stacked(*(found[arm.name] for arm in arms))

    def lacks(self, arm: Arm) -> bool:
        """Whether the arm has to be computed."""
        return len(self.kept(arm)) < len(self.setting.problems)

    def kept(self, arm: Arm) -> pd.DataFrame:
        """The rows of an arm that are on disk, of the setting's problems and in their order; maybe not of all of them."""
        ids = self.setting.ids
        rows = self._kept_baseline(arm) if arm.frozen else self._kept_by_trial(arm)
        rows = rows[rows["problem"].isin(ids)] if len(rows) else rows
        if arm.of_block and len(rows) < len(ids):
            return rows.iloc[:0]  # left by an evaluation of other problems, whose blocks were others
        return _ordered(rows, ids)

    def _kept_baseline(self, arm: Arm) -> pd.DataFrame:
        """Under the setting's own key, or gathered from evaluations of other problems of the same split."""
        exact = self.results.baseline(self.setting.key(arm))
        if exact is not None:
            return exact
        identity, evaluator, split = self.setting.identity(arm), self.setting.evaluator.name, self.setting.split
        kept = self.results.baselines_of(arm.name, evaluator, split)
        alike = [rows for key, rows in kept if stands_for(key, rows, identity)]
        return stacked(*alike).drop_duplicates("problem") if alike else pd.DataFrame(columns=["problem"])

    def _kept_by_trial(self, arm: Arm) -> pd.DataFrame:
        table = self._table
        return self._alike(arm, table) if table is not None else pd.DataFrame(columns=["problem"])

    def _alike(self, arm: Arm, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a translator's arm that depend on the same; those that a trial wrote of itself carry no digest."""
        rows = table[table["arm"] == self.setting.label(arm)]
        return rows[rows["identity"].isna() | (rows["identity"] == self.setting.digest(arm))] if "identity" in rows else rows

    @property
    def _of_trial(self) -> Trained:
        assert self.trained is not None, "an arm of a translator needs a trial"
        return self.trained

    @property
    def _table(self) -> pd.DataFrame | None:
        """The trial's sample rows of this evaluation."""
        return self._of_trial.run.samples(self.setting.evaluator.name, self.setting.split, self._of_trial.step)

    def _todo(self, arms: Sequence[Arm]) -> Iterator[tuple[list[Arm], list[Problem]]]:
        """Arms that are computed together, with the problems that they lack. Arms with exemplars of their own go alone."""
        together: dict[tuple[str, ...], list[Arm]] = {}
        lacking: dict[tuple[str, ...], list[Problem]] = {}
        for arm in arms:
            there = set(self.kept(arm)["problem"])
            missing = [problem for problem in self.setting.problems if problem.id not in there]
            alone = (arm.name,) if not missing or arm.reads_text or arm.chooses else ()
            key = (*alone, *(problem.id for problem in missing))
            together.setdefault(key, []).append(arm)
            lacking[key] = missing
        for key, group in together.items():
            yield group, lacking[key]

    def _compute_once(self, arms: Sequence[Arm], problems: Sequence[Problem], found: Mapping[str, pd.DataFrame]) -> None:
        """The same, but for what another process computes meanwhile: that is waited for."""
        (whole,) = self.setting.requests(arms, size=len(problems), only={problem.id for problem in problems})
        with self.results.alone(self._name(whole)):
            for group, missing in self._todo(arms):
                if missing:
                    self._compute(group, missing, found)
                else:
                    for arm in group:
                        self.tell(arm, len(self.setting.problems))

    def _compute(self, arms: Sequence[Arm], problems: Sequence[Problem], found: Mapping[str, pd.DataFrame]) -> None:
        """Answer these problems with these arms, batch by batch, and keep the rows."""
        size = max(self.batch, self.at_least // len(arms))
        requests = self.setting.requests(arms, size=size, only={problem.id for problem in problems})
        names = [self._name(request) for request in requests]
        left = {name: request for name, request in zip(names, requests, strict=True) if self.results.partial(name) is None}
        lacking = sum(len(request.problems) for request in left.values())
        for arm in arms:
            self.tell(arm, len(self.setting.problems) - lacking)
        asked = [_with_answers(request, found) for request in left.values()]
        for number, rows in self.answerer.answer(asked, self._weights(arms)):
            self.results.write_partial(list(left)[number], pd.DataFrame(rows))
            for arm in arms:
                self.tell(arm, len(asked[number].problems))
        rows_of_all = stacked(*(table for name in names if (table := self.results.partial(name)) is not None))
        for arm in arms:
            self._keep(arm, in_order(rows_of_all[rows_of_all["arm"] == self.setting.label(arm)], problems))
        for name in names:
            self.results.forget_partial(name)

    def _weights(self, arms: Sequence[Arm]) -> Mapping[str, Tensor] | None:
        return self._of_trial.weights if any(arm.trained for arm in arms) else None

    def _name(self, request: Request) -> str:
        """What tells a batch from every other."""
        setting = self.setting
        place = [setting.trial, str(self.trained.step if self.trained else 0), setting.evaluator.name, setting.split]
        labels = [setting.label(arm) for arm in request.arms]
        identities = [setting.digest(arm) or "" for arm in request.arms]
        beside = request.blocks if any(arm.of_block for arm in request.arms) else ()
        others = [problem.id for block in beside for problem in block]
        return "\0".join([*place, *labels, *identities, *request.setting.ids, *others])

    def _keep(self, arm: Arm, rows: pd.DataFrame) -> None:
        """Put rows of an arm where they belong, beside those of other problems."""
        with self.results.alone(self.setting.key(arm)) if arm.frozen else self._of_trial.run.alone():
            self._merge(arm, rows)

    def _merge(self, arm: Arm, rows: pd.DataFrame) -> None:
        rows = _merged(self.kept(arm), rows, self.setting.ids)
        rows = rows.assign(identity=self.setting.digest(arm))
        if arm.frozen:
            self.results.write_baseline(self.setting.key(arm), rows)
            return
        setting, run, step = self.setting, self._of_trial.run, self._of_trial.step
        label, table = setting.label(arm), self._table
        mine = rows
        if table is not None:
            old = self._alike(arm, table)
            order = list(dict.fromkeys([*(old["problem"] if len(old) > len(rows) else ()), *rows["problem"], *old["problem"]]))
            mine = _merged(old, rows, order)
            others = [part for name, part in table.groupby("arm", sort=False) if name != label]
            place = list(dict.fromkeys(table["arm"]))
            at = place.index(label) if label in place else len(others)
            table = stacked(*others[:at], mine, *others[at:])
        run.write_samples(setting.evaluator.name, setting.split, step, mine if table is None else table)
        evaluator = setting.evaluator
        run.add_evals(summarised(mine, step=step, split=setting.split, evaluator=evaluator.name, readings=evaluator.readings))

    def _with_costs(self, arm: Arm, rows: pd.DataFrame) -> pd.DataFrame:
        """The same rows with what the arm costs on some of them; kept as well."""
        some = replace(self.setting, problems=tuple(spread(self.setting.problems, BATCHED)))
        (request,) = some.requests((arm,), size=BATCHED)
        costs = self.answerer.costs(request, arm, self._weights((arm,)), alone=self.timed)
        rows = rows.assign(**{name: rows["problem"].map(values) for name, values in costs.items()})
        self._keep(arm, rows)
        return rows


def _with_answers(request: Request, found: Mapping[str, pd.DataFrame]) -> Request:
    """The request with the answers that its arms pass on."""
    answers = {}
    for name in dict.fromkeys(name for arm in request.arms for name in arm.passes_on):
        completions = found[name].set_index("problem")["completion"]
        answers[name] = tuple(completions[problem.id] for problem in request.problems)
    return replace(request, answers=answers)


def _ordered(rows: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Rows of one arm in the order of the problems, those left out that are not there."""
    there = set(rows["problem"])
    return rows.set_index("problem").reindex([name for name in order if name in there]).reset_index()


def _merged(old: pd.DataFrame, new: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Rows of one arm, the new ones instead of the old, in the order of the problems."""
    kept = old[~old["problem"].isin(new["problem"])] if len(old) else old
    return _ordered(stacked(new, kept), order)


def _timed(rows: pd.DataFrame) -> bool:
    return "latency_1" in rows and bool(rows["latency_1"].notna().any())
