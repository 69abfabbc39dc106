"""A sample of a bundle's rows computed once more, where its models and its benchmark are here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raybridge.analysis.measures import stacked
from raybridge.arms import Arm, find, known, parse
from raybridge.config import rebuild
from raybridge.data import Evaluator, Problem, Split, draw
from raybridge.errors import reason_of
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.bundle.findings import Findings
from raybridge.evaluation.bundle.grades import problems_of
from raybridge.evaluation.identity import contents_of, differences
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Setting
from raybridge.models import byte_lm, names
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.results.bundle import WEIGHTS, Bundle, Place, Rows
from raybridge.trial import Trial

NLL = ("nll", "reconstruction_nll")
TOLERANCE = 1e-3  # relative, of an NLL on the same kind of device


@dataclass(frozen=True, kw_only=True)
class Again:
    """What is computed again. count: problems of each benchmark. device: what computes them."""

    bundle: Bundle
    trial: Trial
    rows: Rows
    judges: Mapping[str, Evaluator]
    found: Findings
    device: str
    count: int

    def check(self) -> None:
        """Compute rows again and compare them with those that the bundle has."""
        if not self.count:
            self.found.unchecked.append("a sample of the rows: none was asked for")
            return
        best = self.bundle.facts["step"]
        others = sorted({place.step for place in self.rows} - {0, best})
        if others:
            steps = f"{len(others)} other steps" if len(others) > 1 else f"step {others[0]}"
            self.found.unchecked.append(f"rows of {steps}: the weights are those of step {best}")
        for name, split in dict.fromkeys(place.benchmark for place in self.rows if place.evaluator in self.judges):
            try:
                self._check_same(name, split)
                problems = problems_of(self.trial, self.judges[name], split)
            except (ValueError, OSError) as error:
                self.found.unchecked.append(f"a sample of the rows on {name} ({split}): {error}")
                continue
            mine = [self.rows.get(Place(evaluator=name, split=split, step=step)) for step in (0, best)]
            samples = stacked(pd.DataFrame(), *(part for part in mine if part is not None))
            for setting, arms in self._together(self._setting(name, split), problems, samples) if len(samples) else ():
                self._answer(setting, arms, samples)

    def _setting(self, name: str, split: str) -> Setting:
        return Setting(
            source=self.trial.source,
            target=self.trial.target,
            evaluator=self.judges[name],
            split=cast(Split, split),
            problems=(),
            translator=self.trial.translator,
            soft_tokens=self.trial.translator.soft_tokens,
            seed=self.trial.seed,
            trial=self.bundle.trial["fingerprint"],
            contents=self.trial.contents,
        )

    def _check_same(self, name: str, split: str) -> None:
        """Refuse models and prompts that are not those of the bundle. Nothing is fetched."""
        for model in dict.fromkeys([self.trial.source, self.trial.target]):
            check_here(model)
        was, judge = self.trial.contents, self.judges[name]
        assert was is not None, "the trial of a bundle has contents"
        now = contents_of(self.trial.source, self.trial.target, judge, splits=(), device=was.device)
        same = replace(now, others=was.others, precision=was.precision)
        splits = {part: getattr(was.benchmark, part) for part in ("train", "dev", "test")}
        same = replace(same, benchmark=replace(now.benchmark, **splits) if judge is self.trial.evaluator else was.benchmark)
        if told := differences(was, same):
            raise ValueError(f"what is here is not what it was computed with: {told}")

    def _together(
        self, setting: Setting, problems: Mapping[str, Problem], samples: pd.DataFrame
    ) -> Iterator[tuple[Setting, list[Arm]]]:
        """Arms that can be answered at once, with the setting of all their problems; the others are told."""
        groups: dict[tuple[Any, ...], tuple[Setting, list[Arm]]] = {}
        for label, rows in samples.groupby("arm", sort=False):
            try:
                arm, hardening = self._arm(str(label))
                if lacking := [one for one in rows["problem"] if one not in problems]:
                    raise ValueError(f"the benchmark has no problem {lacking[0]}")
                own = replace(setting, hardening=hardening, problems=tuple(problems[one] for one in rows["problem"]))
                for handed in map(own.label, map(find, arm.passes_on)):
                    if not set(own.ids) <= set(samples.loc[samples["arm"] == handed, "problem"]):
                        raise ValueError(f"it passes on answers of {handed}, which are not all here")
            except ValueError as error:
                self.found.unchecked.append(f"{label} on {setting.evaluator.name} ({setting.split}): {error}")
                continue
            if arm.trained and self._weights is None:
                continue
            alone = label if arm.reads_text or arm.chooses or arm.passes_on else ""
            groups.setdefault((hardening.label, alone, *own.ids), (own, []))[1].append(arm)
        yield from groups.values()

    def _answer(self, setting: Setting, arms: list[Arm], samples: pd.DataFrame) -> None:
        """Answer some of the problems with these arms and compare the rows."""
        some = draw(setting.problems, min(self.count, len(setting.problems)), seed=0)
        (request,) = setting.requests(arms, size=len(some), only={one.id for one in some})
        kept = {label: rows.set_index("problem").to_dict("index") for label, rows in samples.groupby("arm")}
        handed = {name: kept[setting.label(find(name))] for arm in arms for name in arm.passes_on}
        answers = {name: tuple(rows[one.id]["completion"] for one in request.problems) for name, rows in handed.items()}
        weights = self._weights if request.trained else None
        ((_, computed),) = self._local.answer([replace(request, answers=answers)], weights)
        for label in map(setting.label, arms):
            now = {row["problem"]: row for row in computed if row["arm"] == label}
            self._compare(f"{label} on {setting.evaluator.name} ({setting.split})", now, kept[label])

    def _arm(self, label: str) -> tuple[Arm, Hardening]:
        """The arm of a label and how it decodes. ValueError where it cannot be computed from a bundle."""
        arm, told = known(label), parse(label)
        if arm is None:
            raise ValueError("this raybridge has no such arm")
        if arm.borrows is not None:
            raise ValueError("another trial's translator answered")
        if told.at:
            raise ValueError("it stands before another target than the trial's own")
        if told.hardening not in self._hardenings:
            raise ValueError("the bundle does not say how its decoding was hardened")
        return arm, self._hardenings[told.hardening]

    def _compare(self, what: str, now: Mapping[str, Mapping[str, Any]], kept: Mapping[Any, Mapping[Any, Any]]) -> None:
        """Completions, answers, scores and NLL of one arm; held against the bundle only on the device kind that it tells."""
        differences = [said for problem, row in now.items() for said in _differences(problem, kept[problem], row)]
        assert self.trial.contents is not None, "the trial of a bundle has contents"
        was, here = self.trial.contents.device, torch.device(self.device).type
        equal = sum(kept[problem]["completion"] == row["completion"] for problem, row in now.items())
        told = f"{what}: {equal} of {len(now)} completions are equal"
        if was != here:
            self.found.unchecked.append(f"{told}; it was computed on {was} and this is {here}, so it is not held against it")
        elif differences:
            more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
            self.found.differs.append(f"{told}; the first difference is {differences[0]}{more}")
        else:
            self.found.checked.append(f"{told}, and so are scores and NLL")

    @cached_property
    def _hardenings(self) -> dict[str, Hardening]:
        """The decodings that the bundle tells, by label."""
        try:
            told = [rebuild(one) for one in self.bundle.facts["decodings"]]
        except Exception as error:  # from elsewhere, as a trial's config
            raise ValueError(f"bundle.json: its decodings cannot be built here: {reason_of(error)}") from None
        return {one.label: one for one in (PLAIN, *told) if isinstance(one, Hardening)}

    @cached_property
    def _local(self) -> Local:
        return Local(Models(self.device, cached_states=0))

    @cached_property
    def _weights(self) -> dict[str, Tensor] | None:
        """The translator's weights; None, and that is told, where they are absent or not what its config asks for."""
        if not self.bundle.has(WEIGHTS):
            self.found.unchecked.append("arms of the translator: its weights are not in the bundle")
            return None
        with self.found.held(WEIGHTS):
            return fitting(self.bundle.place(WEIGHTS), self.trial)
        return None


def fitting(file: Path, trial: Trial) -> dict[str, Tensor]:
    """Weights of a file. The sizes that a config names are not believed before a file has as much."""
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot be read: {reason_of(error)}") from None
    try:
        with torch.device("meta"):
            module = trial.translator.build(names.width_of(trial.source), names.width_of(trial.target), target_rms=1.0)
    except Exception as error:  # a config from elsewhere: each translator refuses in its own way
        raise ValueError(f"the translator of its config cannot be built: {reason_of(error)}") from None
    asked, given = ({name: tuple(one.shape) for name, one in part.items()} for part in (module.state_dict(), weights))
    if odd := sorted(name for name in asked.keys() | given.keys() if asked.get(name) != given.get(name)):
        raise ValueError(f"{odd[0]} is {given.get(odd[0], 'absent')}, and its config asks for {asked.get(odd[0], 'none')}")
    return weights


def check_here(model: str) -> None:
    """Refuse a model whose files are not on this machine: none is fetched for a bundle."""
    if model == byte_lm.NAME:
        return
    place = names.place(model)
    if not Path(place).exists():
        try:
            snapshot_download(place, local_files_only=True)
        except OSError:
            raise ValueError(f"model {model} is not here") from None
    names.check(model)


def _differences(problem: str, kept: Mapping[Any, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of a row is not what was computed now."""
    texts = ["completion", "prompt_hash", *(name for name in now if name.startswith(("answer_", "score_")))]
    for name in (one for one in texts if one in kept):
        was, is_ = (None if pd.isna(row[name]) else row[name] for row in (kept, now))
        if was != is_:
            yield f"on {problem}: {name} {str(is_)[:100]!r} where the bundle has {str(was)[:100]!r}"
    for name in (one for one in NLL if one in kept and one in now):
        was, is_ = (math.nan if row[name] is None else float(row[name]) for row in (kept, now))
        if not (math.isnan(was) and math.isnan(is_)) and not abs(is_ - was) <= TOLERANCE * max(abs(was), abs(is_)):
            yield f"on {problem}: {name} {is_:.6g} where the bundle has {was:.6g}"
