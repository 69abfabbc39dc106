"""Evaluate arms of a setting: what is on disk is read, the rest is computed, and all of it is kept.

Rows of arms that need no translator are kept as baselines, those of a translator with its trial. Every batch is written
down as it is done (partial/), so a run that is killed goes on from there, and no more than a batch is in memory meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from torch import Tensor

from raybridge.analysis.measures import FROZEN_ARMS, MORE_FROZEN_ARMS, OF_BOTH, stacked
from raybridge.data import Problem
from raybridge.evaluation.answering import answer, in_order, summarise
from raybridge.evaluation.costs import measure
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import OF_THE_BATCH, READS_TEXT
from raybridge.evaluation.setting import BATCH, Request, Setting, identity_hash
from raybridge.results import Results, TrialRun
from raybridge.results.files import read_frame, write_frame

FROZEN = (*FROZEN_ARMS, *MORE_FROZEN_ARMS)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trial's translator at a step."""

    run: TrialRun
    step: int
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """One setting, and where its rows are kept.

    alone: how many problems are timed one by one; 0 measures no costs. also: keys of baselines, by arm, that hold rows of
    some of the problems as well. tell(arm, new): so many more problems of an arm are done.
    """

    setting: Setting
    results: Results
    models: Models
    trained: Trained | None = None
    batch: int = BATCH
    alone: int = 2
    also: Mapping[str, str] = field(default_factory=dict)
    tell: Callable[[str, int], None] = lambda arm, done: None

    def rows(self, arms: Sequence[str]) -> pd.DataFrame:
        """Sample rows of these arms on the setting's problems, arm by arm in the order of the problems."""
        needed = [arm for arm in ("source", "target") if any(arm in _leans_on(other) for other in arms)]
        order = sorted(dict.fromkeys([*needed, *arms]), key=lambda arm: arm in OF_BOTH)
        found: dict[str, pd.DataFrame] = {}
        for group, missing in self._todo(order):
            if missing:
                self._compute(group, missing, found)
            for arm in group:
                if not missing:
                    self.tell(arm, len(self.setting.problems))
                found[arm] = self.kept(arm)
                assert len(found[arm]) == len(self.setting.problems), f"{arm} was not kept"
        for arm in arms:
            if self.alone and not _timed(found[arm]):
                found[arm] = self._with_costs(arm, found[arm], found)
        return stacked(*(found[arm] for arm in arms))

    def lacks(self, arm: str) -> bool:
        """Whether the arm has to be computed."""
        return len(self.kept(arm)) < len(self.setting.problems)

    def kept(self, arm: str) -> pd.DataFrame:
        """The rows of an arm that are on disk, of the setting's problems and in their order; maybe not of all of them."""
        ids = [problem.id for problem in self.setting.problems]
        rows = self._kept_baseline(arm) if arm in FROZEN else self._kept_by_trial(arm)
        rows = rows[rows["problem"].isin(ids)] if len(rows) else rows
        if arm in OF_THE_BATCH and len(rows) < len(ids):
            return rows.iloc[:0]
        return rows.set_index("problem").reindex([i for i in ids if i in set(rows["problem"])]).reset_index()

    def _kept_baseline(self, arm: str) -> pd.DataFrame:
        """Under the setting's own key, or gathered from evaluations of other problems of the same split."""
        exact = self.results.baseline(self.setting.key(arm))
        if exact is not None:
            return exact
        identity = identity_hash(self.setting, arm)
        prefix = f"{arm}-{self.setting.evaluator.name}-{self.setting.split}-"
        keys = [key for key in self.results.baselines() if key.startswith(prefix)]
        tables = {key: self.results.baseline(key) for key in keys}
        alike = [
            table
            for key, table in tables.items()
            if table is not None and (_identity(table) == identity or key == self.also.get(arm))
        ]
        if not alike:
            return pd.DataFrame(columns=["problem"])
        return stacked(*alike).drop_duplicates("problem")

    def _kept_by_trial(self, arm: str) -> pd.DataFrame:
        table = self._table()
        return table[table["arm"] == self._label(arm)] if table is not None else pd.DataFrame(columns=["problem"])

    def _table(self) -> pd.DataFrame | None:
        assert self.trained is not None, "an arm of a translator needs a trial"
        return self.trained.run.samples(self.setting.evaluator.name, self.setting.split, self.trained.step)

    def _label(self, arm: str) -> str:
        return self.setting.label(arm)

    def _todo(self, arms: Sequence[str]) -> Iterator[tuple[list[str], list[Problem]]]:
        """Arms that are computed together, with the problems that they lack. Arms with exemplars of their own go alone."""
        together: dict[tuple[str, ...], list[str]] = {}
        lacking: dict[tuple[str, ...], list[Problem]] = {}
        for arm in arms:
            there = set(self.kept(arm)["problem"])
            missing = [problem for problem in self.setting.problems if problem.id not in there]
            if len(missing) == 1:  # a batch has at least two
                missing = [*missing, next(problem for problem in self.setting.problems if problem is not missing[0])]
            alone = (arm,) if not missing or arm in READS_TEXT or arm == "joint" else ()
            key = (*alone, *(problem.id for problem in missing))
            together.setdefault(key, []).append(arm)
            lacking[key] = missing
        for key, group in together.items():
            yield group, lacking[key]

    def _compute(self, arms: Sequence[str], problems: Sequence[Problem], found: Mapping[str, pd.DataFrame]) -> None:
        """Answer these problems with these arms, batch by batch, and keep the rows."""
        part = replace(self.setting, problems=tuple(problems))
        step = self.trained.step if self.trained else 0
        prefix = f"{part.trial}/{step}/{part.evaluator.name}/{part.split}/{'+'.join(map(part.label, arms))}"
        batches = {self._spool(request): request for request in part.requests(tuple(arms), prefix=prefix, size=self.batch)}
        kept = len(self.setting.problems) - sum(len(batches[path].problems) for path in batches if not path.exists())
        for arm in arms:
            self.tell(arm, kept)
        for path, request in batches.items():
            if path.exists():  # an earlier run got that far
                continue
            weights = self.trained.weights if self.trained and request.translator is not None else None
            write_frame(path, pd.DataFrame(answer(_with_answers(request, found), self.models, weights)))
            for arm in arms:
                self.tell(arm, len(request.problems))
        rows = stacked(*(read_frame(path) for path in batches))
        for arm in arms:
            fresh = rows[rows["arm"] == self._label(arm)]
            self._keep(arm, in_order(fresh, problems))
        for path in batches:
            path.unlink(missing_ok=True)

    def _spool(self, request: Request) -> Path:
        """Where a batch's rows wait for the others of its arms."""
        identities = [identity_hash(self.setting, arm) if arm in FROZEN else self.setting.trial for arm in request.arms]
        name = "\0".join([request.key, *identities, *(problem.id for problem in request.problems)])
        return self.results.root / "partial" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.parquet"

    def _keep(self, arm: str, rows: pd.DataFrame) -> None:
        """Put rows of an arm where they belong, beside those of other problems."""
        before = self.kept(arm)
        rows = _merged(before, rows, [problem.id for problem in self.setting.problems])
        if arm in FROZEN:
            self.results.write_baseline(self.setting.key(arm), rows.assign(identity=identity_hash(self.setting, arm)))
            return
        assert self.trained is not None
        setting, run, step = self.setting, self.trained.run, self.trained.step
        table = self._table()
        mine = rows
        if table is not None:
            old = table[table["arm"] == self._label(arm)]
            order = list(dict.fromkeys([*(old["problem"] if len(old) > len(rows) else ()), *rows["problem"], *old["problem"]]))
            mine = _merged(old, rows, order)
            others = [part for name, part in table.groupby("arm", sort=False) if name != self._label(arm)]
            place = list(dict.fromkeys(table["arm"]))
            at = place.index(self._label(arm)) if self._label(arm) in place else len(others)
            table = stacked(*others[:at], mine, *others[at:])
        run.write_samples(setting.evaluator.name, setting.split, step, mine if table is None else table)
        run.add_evals(summarise(mine, setting.evaluator, step=step, split=setting.split))

    def _with_costs(self, arm: str, rows: pd.DataFrame, found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """The same rows with what the arm costs on some of them; kept as well."""
        (request,) = self._first(arm)
        weights = self.trained.weights if self.trained and request.translator is not None else None
        costs = measure(request, self.models, arm, weights, alone=self.alone)
        rows = rows.assign(**{name: rows["problem"].map(values) for name, values in costs.items()})
        self._keep(arm, rows)
        return rows

    def _first(self, arm: str) -> list[Request]:
        """One request of the setting's first problems."""
        some = replace(self.setting, problems=self.setting.problems[:32])
        return some.requests((arm,), prefix="costs", size=32)


def _leans_on(arm: str) -> tuple[str, ...]:
    """The arms whose answers an arm passes on."""
    return ("source", "target") if arm == "joint" else ("source",) if arm in OF_BOTH else ()


def _with_answers(request: Request, found: Mapping[str, pd.DataFrame]) -> Request:
    """The request with the answers that its arm passes on."""
    given: dict[str, tuple[str, ...]] = {"source": (), "target": ()}
    for member in dict.fromkeys(name for arm in request.arms for name in _leans_on(arm)):
        completions = found[member].set_index("problem")["completion"]
        given[member] = tuple(completions[problem.id] for problem in request.problems)
    return replace(request, source_answers=given["source"], target_answers=given["target"])


def _merged(old: pd.DataFrame, new: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Rows of one arm, the new ones instead of the old, in the order of the problems."""
    kept = old[~old["problem"].isin(new["problem"])] if len(old) else old
    rows = stacked(new, kept)
    return rows.set_index("problem").reindex([i for i in order if i in set(rows["problem"])]).reset_index()


def _identity(table: pd.DataFrame) -> str | None:
    return str(table["identity"].iloc[0]) if "identity" in table and len(table) else None


def _timed(rows: pd.DataFrame) -> bool:
    return "latency_1" in rows and bool(rows["latency_1"].notna().any())
