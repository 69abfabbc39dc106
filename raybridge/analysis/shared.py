"""Rows that trials share: frozen arms, kept once for all that ask the same, and arms that another trial's rows stand for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import pandas as pd

from raybridge.analysis.kinds import in_place, is_plain
from raybridge.analysis.measures import stacked, summarised
from raybridge.arms import Arm, every, parse
from raybridge.config import kind_in
from raybridge.results import Results, TrialRun
from raybridge.results.baselines import digest, identity_in, key_of
from raybridge.results.baselines import parse as parse_key
from raybridge.results.find import Lender, decodings, lenders, nearest

Kept = tuple[str, str, str, str]  # arm, evaluator, split, digest of the identity


@dataclass(frozen=True)
class FrozenArms:
    """The baselines of a results folder, each read once."""

    results: Results

    @cached_property
    def _kept(self) -> dict[str, pd.DataFrame | str]:
        """Sample rows of every baseline on disk, without the texts, or what is wrong with the file."""
        read: dict[str, pd.DataFrame | str] = {}
        for key in self.results.baselines():
            try:
                samples = self.results.baseline(key, text=False)
                assert samples is not None
                read[key] = samples.assign(step=0)
            except ValueError as error:
                read[key] = str(error)
        return read

    @property
    def broken(self) -> dict[str, str]:
        """What is wrong with those that cannot be read, by key."""
        return {key: read for key, read in self._kept.items() if isinstance(read, str)}

    def keys(
        self,
        config: Mapping[str, Any],
        contents: Mapping[str, Any] | None,
        evaluator: str,
        split: str,
        problems: Sequence[str],
    ) -> dict[str, str]:
        """The key of each baseline on disk that belongs to a resolved trial, by label. contents: those of the trial.

        Of hardened decoding the one with most problems: an evaluation may have asked for fewer than the trial did.
        """
        found: dict[str, str] = {}
        for arm in every():
            if not arm.frozen:
                continue
            key = key_of(identity_in(arm, config, contents, split), evaluator, split, problems)
            if isinstance(self._kept.get(key), pd.DataFrame):
                found[arm.name] = key
            for decoding in self._decodings:
                hardened = identity_in(arm, config, contents, split, decoding)
                found |= self._hardened.get((arm.name, evaluator, split, digest(hardened)), {})
        return found

    @cached_property
    def _decodings(self) -> list[dict[str, Any]]:
        """Decodings other than plain greedy that evaluations asked for."""
        return decodings(self.results)

    @cached_property
    def _hardened(self) -> dict[Kept, dict[str, str]]:
        """By identity the label of a hardened arm and the key of its rows."""
        found: dict[Kept, dict[str, str]] = {}
        readable = {key: rows for key, rows in self._kept.items() if isinstance(rows, pd.DataFrame) and len(rows)}
        for key, rows in sorted(readable.items(), key=lambda item: len(item[1])):
            label = str(rows["arm"].iloc[0])
            if "identity" in rows and not is_plain(label):
                told = parse_key(key)
                found[told.arm, told.evaluator, told.split, str(rows["identity"].iloc[0])] = {label: key}
        return found

    @cached_property
    def summary(self) -> Callable[[str], list[dict[str, Any]]]:
        """Rows like those of evals.parquet of a baseline, by key."""

        @cache
        def rows(key: str) -> list[dict[str, Any]]:
            told = parse_key(key)
            return summarised(self.samples(key, False), step=0, split=told.split, evaluator=told.evaluator)

        return rows

    @cached_property
    def samples(self) -> Callable[[str, bool], pd.DataFrame]:
        """(key, with texts?) -> sample rows of a baseline."""

        @cache
        def rows(key: str, text: bool) -> pd.DataFrame:
            samples = self.results.baseline(key) if text else self._kept[key]
            assert isinstance(samples, pd.DataFrame)
            return samples.assign(step=0)

        return rows


@dataclass(frozen=True, kw_only=True)
class Borrower:
    """A trial as one that borrows. hardenings: how decoding was hardened in its evaluations, plain among them."""

    fingerprint: str
    config: Mapping[str, Any]
    contents: Mapping[str, Any] | None
    hardenings: Collection[str]


@dataclass(frozen=True)
class Borrowed:
    """Rows of complete trials that stand for arms of others. trials: all on disk."""

    trials: Sequence[TrialRun]

    @cached_property
    def _lenders(self) -> dict[Arm, list[Lender]]:
        return {arm: lenders(self.trials, arm.of_translator) for arm in every() if arm.borrows and arm.of_translator}

    @cached_property
    def _evals(self) -> Callable[[TrialRun], pd.DataFrame]:
        return cache(TrialRun.evals)

    def evals(self, borrower: Borrower, evaluator: str, split: str) -> pd.DataFrame:
        """Rows of evals.parquet that stand for arms of a trial."""
        tables = []
        for arm, run in self._lent_to(borrower):
            rows = self._evals(run)
            tables.append(_as(arm, run, rows[(rows["evaluator"] == evaluator) & (rows["split"] == split)], borrower))
        return stacked(pd.DataFrame(), *tables)

    def samples(self, borrower: Borrower, evaluator: str, split: str, *, text: bool) -> pd.DataFrame:
        """Sample rows that stand for them, where the lenders were evaluated."""
        tables = []
        for arm, run in self._lent_to(borrower):
            step = _best_step(run)
            rows = run.samples(evaluator, split, step, text=text)
            tables += [] if rows is None else [_as(arm, run, rows.assign(step=step), borrower)]
        return stacked(pd.DataFrame(), *tables)

    def _lent_to(self, borrower: Borrower) -> Iterator[tuple[Arm, TrialRun]]:
        """Each arm that is borrowed, and the trial of the same target and benchmark that lends it."""
        config = borrower.config
        if "evaluator" not in config or config.get("imported"):
            return
        asked = {"target": config["target"], "evaluator": config["evaluator"], "but": borrower.fingerprint}
        for arm, among in self._lenders.items():
            fits = [one for one in among if one.has_target(borrower.contents)]
            found = nearest(fits, soft_tokens=config["translator"]["soft_tokens"], **asked)
            if found is not None and found.evaluator == kind_in(config["evaluator"]):
                yield arm, found.run


def _as(arm: Arm, run: TrialRun, rows: pd.DataFrame, borrower: Borrower) -> pd.DataFrame:
    """The rows of the arm that is lent, at the lender's best step, under the name of the one that borrows."""
    told = {label: parse(label) for label in rows["arm"].unique()}
    lent = [label for label, one in told.items() if one.arm == arm.borrows and not one.at]
    lent = [label for label in lent if told[label].hardening in borrower.hardenings]
    mine = rows[rows["arm"].isin(lent) & (rows["step"] == _best_step(run))]
    return mine.assign(arm=mine["arm"].map({label: in_place(label, arm.name) for label in lent}))


def _best_step(run: TrialRun) -> int:
    result = run.result()
    assert result is not None, f"{run.path} lends rows and has no result"
    return int(result["best_step"])
