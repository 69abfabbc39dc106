"""A trial as a person names it, and what else stands in the results that other rows lean on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybridge.config import fingerprint, identified, kind_in
from raybridge.errors import unknown
from raybridge.results import readers
from raybridge.results.contents import EARLIER, changes, raised
from raybridge.results.store import Results
from raybridge.results.trial_run import TrialRun, standing


def find_trial(named: str, results: Results, *, commands: Sequence[str] = ()) -> TrialRun:
    """A trial by its directory, its directory's name, its name or the beginning of its fingerprint.

    commands: what may stand in a trial's place, and be mistyped. What is broken of others is passed over.
    """
    path = Path(named)
    if (path / "trial.json").is_file():
        there = TrialRun(standing(path), path.name, "")
        results, named = Results(there.root), there.path.name
    broken: dict[str, str] = {}
    trials = results.trials(broken)
    fits = [
        run for run in trials if named in (run.path.name, run.name) or (len(named) >= 8 and run.fingerprint.startswith(named))
    ]
    if not fits:
        for directory, why in broken.items():
            if named in (directory, directory.rpartition("-")[0]):
                raise ValueError(why)
        kind = "trial or command" if commands else "trial"
        raise unknown(kind, named, [*(run.path.name for run in trials), *commands], str(results.root))
    if len(fits) > 1:
        raise ValueError(
            f"{named!r} is the name of {len(fits)} trials: {', '.join(run.path.name for run in fits)}; give one of these"
        )
    return fits[0]


@dataclass(frozen=True, kw_only=True)
class Lender:
    """A complete trial whose rows may stand for an arm of others. evaluator: the kind of its benchmark."""

    run: TrialRun
    target: str
    evaluator: str
    soft_tokens: int

    def has_target(self, contents: Mapping[str, Any] | None) -> bool:
        """Whether its target is that of other contents, as far as both are known."""
        mine = self.run.contents
        return mine is None or contents is None or mine["target"] == contents["target"]


def lenders(trials: Iterable[TrialRun], translator: str) -> list[Lender]:
    """The complete trials of a translator, by its kind."""
    found = []
    for run in trials:
        config = run.config if run.complete and not run.config.get("bundle") else {}  # a bundle's has no checkpoint here
        if kind_in(config.get("translator") or {}) == translator and "evaluator" in config:
            where = {"target": config["target"], "evaluator": kind_in(config["evaluator"])}
            found.append(Lender(run=run, **where, soft_tokens=config["translator"]["soft_tokens"]))
    return found


def nearest(
    among: Iterable[Lender], *, target: str, evaluator: Mapping[str, Any], soft_tokens: int, but: str = ""
) -> Lender | None:
    """The one for this target: of the same benchmark first, then the nearest in soft tokens. but: a fingerprint left out."""
    fits = [one for one in among if one.target == target and one.run.fingerprint != but]
    return min(fits, key=lambda one: _distance(one, kind_in(evaluator), soft_tokens), default=None)


def _distance(one: Lender, evaluator: str, soft_tokens: int) -> tuple[bool, int, str]:
    return one.evaluator != evaluator, abs(one.soft_tokens - soft_tokens), one.run.path.name


def trial_of_translator(
    results: Results, translator: str, *, target: str, evaluator: Mapping[str, Any], soft_tokens: int, but: str = ""
) -> TrialRun | None:
    """The complete trial of a translator whose rows stand for those of another trial; `nearest` says which."""
    among = lenders(results.trials(broken={}), translator)
    found = nearest(among, target=target, evaluator=evaluator, soft_tokens=soft_tokens, but=but)
    return found.run if found else None


def by_config(trials: Iterable[TrialRun]) -> dict[str, list[TrialRun]]:
    """Trials by what was asked for, whatever it was called and of whatever contents and versions it was."""
    found: dict[str, list[TrialRun]] = {}
    for run in trials:
        found.setdefault(_asked(run.config), []).append(run)
    return found


def why_anew(experiment: Mapping[str, Any], kept: Mapping[str, Sequence[TrialRun]]) -> list[str]:
    """Why a resolved experiment that is not on disk must run though one of the same config did; empty where none did.

    kept: `by_config`. Of several the one from which least is different.
    """
    alike = [_differences(run, experiment) or [EARLIER] for run in kept.get(_asked(experiment), ())]
    return min(alike, key=len, default=[])


def _asked(config: Mapping[str, Any]) -> str:
    """Digest of a resolved experiment as its author wrote it, but for its name."""
    told = {key: value for key, value in config.items() if key not in ("name", "contents")}
    return fingerprint(identified(told, without=("VERSION",)))


def _differences(run: TrialRun, experiment: Mapping[str, Any]) -> list[str]:
    before, contents = run.contents, experiment.get("contents")
    config = {key: value for key, value in experiment.items() if key != "contents"}
    if contents is None or before is None:
        return list(raised(run.config, config)) if contents is None else [EARLIER]
    return [*raised(run.config, config), *changes(before, contents)]


def decodings(results: Results) -> list[dict[str, Any]]:
    """The resolved decodings, other than plain greedy, that evaluations outside a sweep asked for, each once."""
    asked = [
        row["decoding"] for row in readers.lines(results.root / "evaluations.jsonl", readers.EVALUATIONS) if row.get("decoding")
    ]
    return [one for number, one in enumerate(asked) if one not in asked[:number]]
