"""A view of results as tidy tables: one row a trial, an evaluation or a logged step, each with the trial it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from raybridge.analysis.kinds import are, is_a, is_plain, trained
from raybridge.analysis.labels import labels_of, name_of
from raybridge.analysis.measures import gap_parts, gaps_recovered, of_first_reading, stacked
from raybridge.analysis.readable import Readable
from raybridge.analysis.replicates import band_of, replicates
from raybridge.analysis.shared import Borrowed, Borrower, FrozenArms
from raybridge.analysis.trials import OF_THE_TRIAL, trials_of
from raybridge.arms import parse
from raybridge.config import fingerprint as fingerprint_of
from raybridge.results import Results, TrialRun
from raybridge.results.schema import CONDITIONING, EVAL_COLUMNS


@dataclass(frozen=True)
class Runs:
    """The trials of a results folder, or those that one sweep asked for. Nothing here writes.

    A group is the trials that differ in their seed alone; its label is what a figure calls it. `earlier` marks those of an
    earlier identity. Columns that start with `config.` and `result.` are the resolved trial and its result.json, flattened.
    """

    results: Results
    sweep: str | None = None
    chosen: frozenset[str] | None = None  # fingerprints; None is all

    @cached_property
    def _disk(self) -> Readable:
        return Readable(self.results, self.sweep)

    @property
    def named(self) -> dict[str, dict[str, str]]:
        """What each sweep calls the trials that it asked for, by fingerprint: one that ran before has another name on disk."""
        return self._disk.named

    @cached_property
    def plans(self) -> dict[str, list[str]]:
        """Fingerprints that each sweep asked for."""
        return {sweep: list(names) for sweep, names in self.named.items()}

    @cached_property
    def smoke(self) -> bool:
        """Whether these are trials that were cut to a few steps to see that everything runs."""
        return any(plan.get("smoke") for plan in self._disk.plans.values() if not isinstance(plan, str))

    @cached_property
    def runs(self) -> dict[str, TrialRun]:
        """Each trial by its fingerprint, but for those that are left out."""
        there = {fingerprint: run for fingerprint, (run, _) in self._disk.trials.items() if fingerprint not in self.left_out}
        return {one: run for one, run in there.items() if self.chosen is None or one in self.chosen}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """What cannot be read and is in no figure, and why: trials by fingerprint, baselines by key, plans by their sweep."""
        return self._disk.broken | self._frozen.broken

    @cached_property
    def _frozen(self) -> FrozenArms:
        return FrozenArms(self.results)

    @cached_property
    def _borrowed(self) -> Borrowed:
        readable = [run for run in self._disk.opened[0] if run.fingerprint not in self.left_out]
        return Borrowed(readable)

    @cached_property
    def config(self) -> Callable[[str], dict[str, Any]]:
        """The resolved config of a trial."""
        return cache(lambda fingerprint: self.runs[fingerprint].config)

    @cached_property
    def contents(self) -> Callable[[str], dict[str, Any] | None]:
        """The resolved contents of what a trial read; None of an earlier identity."""
        return cache(lambda fingerprint: self.runs[fingerprint].contents)

    def asked_by(self, sweep: str) -> set[str]:
        """Fingerprints of what a figure about a sweep shows: its trials, or those of the sweep that was chosen instead.

        Trials that were chosen by hand without a sweep are all shown: imported ones are of none.
        """
        if self.chosen is not None and self.sweep is None:
            return set(self.runs)
        return set(self.plans.get(self.sweep or sweep, ())) & set(self.runs)

    def of_sweep(self, sweep: str) -> pd.DataFrame:
        """The trials that a sweep asked for, under the names that it gave them."""
        asked = self.trials[self.trials["fingerprint"].isin(self.plans[sweep])]
        trials = asked.assign(trial=asked["fingerprint"].map(self.named[sweep]))
        return trials.assign(label=trials["group"].map(labels_of(trials)))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row for each trial."""
        sweeps: dict[str, list[str]] = {}
        for sweep, fingerprints in self.plans.items():
            for fingerprint in fingerprints:
                sweeps.setdefault(fingerprint, []).append(sweep)
        names = self.named.get(self.sweep or "", {})
        return trials_of(
            self.runs, config=self.config, contents=self.contents, evals=self._evals_of, names=names, sweeps=sweeps
        )

    @cached_property
    def evals(self) -> pd.DataFrame:
        """A row for each (trial, step, evaluator, split, arm, reading)."""
        return self._joined({fingerprint: self._evals_of(fingerprint) for fingerprint in self.runs}, EVAL_COLUMNS)

    def _evals_of(self, fingerprint: str) -> pd.DataFrame:
        """The evaluations of a trial that is not left out."""
        evals = self._disk.trials[fingerprint][1]
        assert isinstance(evals, pd.DataFrame)
        return evals

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row for each trial and logged step."""
        return self._joined({fingerprint: run.metrics() for fingerprint, run in self.runs.items()}, ["step"])

    @cached_property
    def conditioning(self) -> pd.DataFrame:
        """A row for each (trial, evaluator, kind, index) of the diagnostics that an evaluation left beside its samples."""
        tables = {fingerprint: run.conditioning() for fingerprint, run in self.runs.items()}
        return self._joined(tables, ["evaluator", *CONDITIONING])

    @cached_property
    def first_readings(self) -> pd.DataFrame:
        """The evaluations by each benchmark's first reading, the one that selection and stopping use."""
        return of_first_reading(self.evals)

    @cached_property
    def test(self) -> pd.DataFrame:
        """Each trial on test: a row for each (trial, evaluator, arm, reading), its translator at its best step on dev.

        Frozen arms are in it as they were kept, once for all that ask the same of the same model, and what another trial's
        translator answers as that trial has it; an imported trial has both with it.
        """
        evals = self.evals[self.evals["split"] == "test"]
        best = evals["fingerprint"].map(self.trials.set_index("fingerprint")["result.best_step"])
        brought = (evals["step"] == 0) & are(evals["arm"], lambda arm: arm.borrows is not None)
        evals = evals[~are(evals["arm"], trained) | best.isna() | (evals["step"] == best) | brought]
        evals = stacked(self.frozen("test"), evals, self._joined(self._borrowed_on_test(), EVAL_COLUMNS))
        return evals.drop_duplicates(["fingerprint", "evaluator", "arm", "reading"], keep="last").reset_index(drop=True)

    def by_trial(self, arm: str, *, on: str | None = None) -> pd.DataFrame:
        """A row for each trial: an arm on test by the first reading, on one benchmark; on the trial's own if none is given."""
        rows = of_first_reading(self.test[self.test["arm"] == arm])
        configs = {one: self.config(one).get("evaluator") for one in rows["fingerprint"]}
        own = {one: on or (name_of(asked) if asked else None) for one, asked in configs.items()}
        wanted = rows["fingerprint"].map(own)
        rows = rows[wanted.isna() | (rows["evaluator"] == wanted)]  # an imported run does not say: what it was tested on first
        return rows.drop_duplicates("fingerprint").reset_index(drop=True)

    def _borrowed_on_test(self) -> dict[str, pd.DataFrame]:
        """Rows of other trials that stand for arms of a trial, on the benchmarks that it was tested on."""
        tested: dict[str, list[pd.DataFrame]] = {}
        for fingerprint, evaluator, split in self._last_evaluated:
            if split == "test":
                rows = self._borrowed.evals(self._borrower(fingerprint), evaluator, split)
                tested.setdefault(fingerprint, []).append(rows)
        return {fingerprint: stacked(*tables) for fingerprint, tables in tested.items()}

    def _borrower(self, fingerprint: str) -> Borrower:
        hardenings = self._hardenings.get(fingerprint, {""})
        config, contents = self.config(fingerprint), self.contents(fingerprint)
        return Borrower(fingerprint=fingerprint, config=config, contents=contents, hardenings=hardenings)

    def frozen(self, split: str) -> pd.DataFrame:
        """Rows like those of `evals`, at step 0, of every trial's arms that need no translator."""

        @cache
        def table(keys: tuple[str, ...]) -> pd.DataFrame:
            return pd.DataFrame([row for key in keys for row in self._frozen.summary(key)])

        rows = {fingerprint: table(tuple(self.baseline_keys(fingerprint, split).values())) for fingerprint in self.runs}
        return self._joined(rows, EVAL_COLUMNS)

    @cached_property
    def baseline_keys(self) -> Callable[[str, str], dict[str, str]]:
        """(fingerprint, split) -> the key of each baseline on disk that belongs to a trial, by label."""
        return cache(self._baseline_keys)

    def _baseline_keys(self, fingerprint: str, split: str) -> dict[str, str]:
        config, contents = self.config(fingerprint), self.contents(fingerprint)
        if config.get("imported") or "evaluator" not in config:
            return {}
        evaluator, named = name_of(config["evaluator"]), fingerprint_of(config["evaluator"])
        step, n = self._last_evaluated.get((fingerprint, evaluator, split), (None, 0))
        asked = (split, named, config.get(f"{split}_problems"), n)  # n: a trial may have been evaluated on more than it asks
        if asked not in self._problems and step is not None:
            samples = self.runs[fingerprint].samples(evaluator, split, step, text=False)
            if samples is not None:
                self._problems[asked] = list(dict.fromkeys(samples["problem"]))
        if step is None or asked not in self._problems:
            return {}
        keys = self._frozen.keys(config, contents, evaluator, split, self._problems[asked])
        return {label: key for label, key in keys.items() if parse(label).hardening in self._hardenings[fingerprint]}

    @cached_property
    def _hardenings(self) -> dict[str, set[str]]:
        """How decoding was hardened in the evaluations of each trial; plain among them."""
        labels = self.evals.groupby("fingerprint")["arm"].unique()
        return {str(one): {"", *(parse(label).hardening for label in found)} for one, found in labels.items()}

    @cached_property
    def _last_evaluated(self) -> dict[tuple[Any, ...], tuple[int, int]]:
        """Step and n of each (fingerprint, evaluator, split) at which a translator was evaluated last."""
        mine = [label for label in self.evals["arm"].unique() if is_plain(label) and is_a(label, trained)]
        evals = self.evals[self.evals["arm"].isin(mine)]
        last = evals.sort_values("step", kind="stable").groupby(["fingerprint", "evaluator", "split"])[["step", "n"]].last()
        return {key: (step, n) for key, step, n in zip(last.index, last["step"], last["n"], strict=True)}

    @cached_property
    def _problems(self) -> dict[tuple[Any, ...], list[str]]:
        """Problem ids by what was asked for, so that a thousand trials on the same problems read them once."""
        return {}

    @cached_property
    def scores(self) -> Callable[[str, str], pd.DataFrame]:
        """`answers` on test without the texts, kept: several figures ask for the same ones."""
        return cache(lambda fingerprint, evaluator: self.answers(fingerprint, evaluator, text=False))

    @cached_property
    def by_arm(self) -> Callable[[str, str], dict[str, pd.DataFrame]]:
        """`scores` of each arm, by problem."""
        return cache(lambda *of: {str(arm): part.set_index("problem") for arm, part in self.scores(*of).groupby("arm")})

    @cached_property
    def gap_parts(self) -> Callable[[str, str], dict[str, pd.DataFrame]]:
        """What gap recovered on test is made of, by arm and problem."""
        return cache(lambda *of: gap_parts(self.scores(*of)))

    def band(self, rows: pd.DataFrame) -> float | None:
        """The A/A band of accuracies by one benchmark and reading, a row each trial, and of `replicates` by the same arms."""
        if rows.empty:
            return None
        first = rows.iloc[0]
        of = {"on": first["evaluator"], "split": first["split"], "arms": set(rows["arm"]), "reading": first["reading"]}
        return band_of(rows, beside=replicates(self.results, like=self.config(first["fingerprint"]), **of))

    @cached_property
    def gaps(self) -> Callable[[str, str], dict[str, tuple[float, float, float]]]:
        """Gap recovered on test by each arm of a trial: (gap, low, high)."""
        return cache(lambda fingerprint, evaluator: gaps_recovered(self.scores(fingerprint, evaluator)))

    def answers(self, fingerprint: str, evaluator: str, *, split: str = "test", text: bool = True) -> pd.DataFrame:
        """Sample rows of a trial on a split, frozen arms included, its translator at its best step."""
        run = self.runs[fingerprint]
        steps = [step for name, part, step in run.sampled() if (name, part) == (evaluator, split)]
        best = (run.result() or {}).get("best_step")
        parts = [self._frozen.samples(key, text) for key in self.baseline_keys(fingerprint, split).values()]
        for step in steps:
            samples = run.samples(evaluator, split, step, text=text)
            if samples is not None:
                ours = are(samples["arm"], trained) & (step != best) & (best is not None)
                parts.append(samples[~ours].assign(step=step))
        if not parts:
            return pd.DataFrame(columns=["problem", "arm", "step"])
        lent = self._borrowed.samples(self._borrower(fingerprint), evaluator, split, text=text)
        rows = stacked(*parts, lent)
        return rows.drop_duplicates(["problem", "arm"], keep="last").reset_index(drop=True)

    def best_on_dev(self, evals: pd.DataFrame) -> pd.DataFrame:
        """Of rows on test, those of the configuration that was best on dev for its pair, benchmark and K."""
        if evals.empty:
            return evals
        keys = ["pair", "evaluator", "K"]
        rank = evals["fingerprint"].map(self.trials.set_index("fingerprint")["rank"]).astype(float)
        means = evals.assign(rank=rank).groupby([*keys, "label"], dropna=False)["rank"].mean().reset_index()
        best = means.sort_values("rank", ascending=False, kind="stable").drop_duplicates(keys)  # of equals, the first by name
        return evals.merge(best[[*keys, "label"]], on=[*keys, "label"])

    def samples(self, fingerprint: str, evaluator: str, split: str, step: int) -> pd.DataFrame | None:
        """The sample rows of one evaluation of a trial, or None."""
        return self.runs[fingerprint].samples(evaluator, split, step)

    def provenance(self, fingerprint: str) -> dict[str, Any]:
        """Where a trial's numbers come from."""
        return self.runs[fingerprint].provenance

    def _joined(self, tables: Mapping[str, pd.DataFrame], columns: list[str]) -> pd.DataFrame:
        """The tables of all trials under one another, each row with the trial it belongs to."""
        kept = {fingerprint: table for fingerprint, table in tables.items() if len(table)}
        if not kept:
            return pd.DataFrame(columns=[*OF_THE_TRIAL, *columns])
        table = pd.concat(kept.values(), ignore_index=True)
        place = {fingerprint: number for number, fingerprint in enumerate(self.trials["fingerprint"])}
        rows = np.repeat([place[fingerprint] for fingerprint in kept], [len(part) for part in kept.values()])
        return pd.concat([self.trials[OF_THE_TRIAL].iloc[rows].reset_index(drop=True), table], axis=1)
