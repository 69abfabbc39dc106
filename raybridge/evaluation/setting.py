"""What an evaluation asks: a batch of problems and the arms to answer them with.

How a split is cut into requests depends on the problems alone, so the same rows come back from one replica or from eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.analysis.measures import FROZEN_ARMS, MORE_FROZEN_ARMS, OF_K, TRANSLATOR_ARMS, frozen_identity, frozen_key
from raybridge.config import Json, fingerprint, resolve
from raybridge.data import Evaluator, Problem, Split, draw
from raybridge.errors import unknown
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.translators import Translator
from raybridge.trial import Trial

TRIAL_ARMS_DEV = ("bridged", "shuffled")
TRIAL_ARMS_TEST = ("bridged", "shuffled", "bridged_with_text")
TRIAL_ARMS = frozenset(TRANSLATOR_ARMS)
BASELINE_ARMS = FROZEN_ARMS  # those that every sweep computes
K_ARMS = frozenset(OF_K)
BATCH = 128  # problems a request


@dataclass(frozen=True, kw_only=True)
class Request:
    """One batch of work. The same key always stands for the same rows.

    seed: the trial's, by which `shuffled` finds another problem for each.
    source_answers, target_answers: completions of these models, one a problem, for the arms that pass them on.
    at: another target than the trial's own; empty for that.
    """

    key: str
    arms: tuple[str, ...]
    problems: tuple[Problem, ...]
    evaluator: Evaluator
    source: str
    target: str
    translator: Translator | None = None
    soft_tokens: int = 0
    seed: int = 0
    hardening: Hardening = PLAIN
    source_answers: tuple[str, ...] = ()
    target_answers: tuple[str, ...] = ()
    at: str = ""

    def label(self, arm: str) -> str:
        """The name under which an arm's rows are kept."""
        return label(arm, self.hardening, self.at)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which models are asked which problems, and how they decode.

    trial: the fingerprint of the translator's trial. at: the target, where it is another than that trial's own.
    """

    source: str
    target: str
    evaluator: Evaluator
    split: Split
    problems: tuple[Problem, ...]
    translator: Translator | None = None
    soft_tokens: int = 0
    seed: int = 0
    trial: str = ""
    hardening: Hardening = PLAIN
    at: str = ""

    def label(self, arm: str) -> str:
        """The name under which an arm's rows are kept."""
        return label(arm, self.hardening, self.at)

    @property
    def _decoding(self) -> Json:
        """How this differs from plain greedy decoding; None where it does not."""
        return resolve(self.hardening) if self.hardening != PLAIN else None

    def identity(self, arm: str) -> dict[str, Json]:
        """What the rows of a frozen arm depend on, the choice of problems left out."""
        return frozen_identity(
            arm,
            source=self.source,
            target=self.target,
            evaluator=resolve(self.evaluator),
            soft_tokens=self.soft_tokens,
            decoding=self._decoding,
        )

    def key(self, arm: str) -> str:
        """The name under which a frozen arm is kept."""
        ids = [problem.id for problem in self.problems]
        return frozen_key(arm, self.identity(arm), self.evaluator.name, self.split, ids)

    def requests(self, arms: tuple[str, ...], *, prefix: str, size: int = BATCH) -> list[Request]:
        """The batches of these arms; of frozen arms, those of one that depends on K must not stand beside those that do not."""
        translated = self.translator is not None and not TRIAL_ARMS.isdisjoint(arms)
        return [
            Request(
                key=f"{prefix}/{number}",
                arms=arms,
                problems=problems,
                evaluator=self.evaluator,
                source=self.source,
                target=self.target,
                translator=self.translator if translated else None,
                soft_tokens=self.soft_tokens if translated or not K_ARMS.isdisjoint(arms) else 0,
                seed=self.seed if translated else 0,
                hardening=self.hardening,
                at=self.at,
            )
            for number, problems in enumerate(batches(self.problems, size))
        ]


def label(arm: str, hardening: Hardening, at: str) -> str:
    """An arm's name with its hardening; an arm of a translator tells as well which other target answered."""
    return arm + hardening.label + (f"@{at}" if at and arm in TRIAL_ARMS else "")


def setting_of(trial: Trial, split: Split) -> Setting:
    """A trial on the problems that it is judged on."""
    return Setting(
        source=trial.source,
        target=trial.target,
        evaluator=trial.evaluator,
        split=split,
        problems=tuple(problems_of(trial, split)),
        translator=trial.translator,
        soft_tokens=trial.translator.soft_tokens,
        seed=trial.seed,
        trial=trial.fingerprint,
    )


def problems_of(trial: Trial, split: Split) -> list[Problem]:
    """The problems of a split that the trial is judged on, in the order of every evaluation of it."""
    problems = trial.evaluator.problems(split)
    count = {"dev": trial.dev_problems, "test": trial.test_problems}.get(split)
    return problems if count is None else draw(problems, count, seed=0)


def batches(problems: Sequence[Problem], size: int) -> list[tuple[Problem, ...]]:
    """Problems of like length together, never one alone: the shuffled control needs a neighbour."""
    ordered = sorted(problems, key=lambda problem: (len(problem.question), problem.id))
    cut = [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2:] = [cut[-2] + cut[-1]]
    if len(cut[-1]) < 2:
        raise ValueError("an evaluation needs at least 2 problems: the shuffled control answers with another one's soft tokens")
    return cut


def requests_for(trial: Trial, *, step: int, split: Split, arms: tuple[str, ...], batch: int = BATCH) -> list[Request]:
    """The requests of one evaluation of a trial's translator."""
    check_arms(arms, TRIAL_ARMS, "arm of a translator")
    prefix = f"{trial.fingerprint}/{step}/{split}/{'+'.join(arms)}"
    return setting_of(trial, split).requests(arms, prefix=prefix, size=batch)


def baseline_requests(trial: Trial, split: Split, *, batch: int = BATCH) -> list[tuple[str, str, list[Request]]]:
    """(arm, key, requests) of each arm that needs no translator; trials that share a key share the rows."""
    setting = setting_of(trial, split)
    keys = {arm: setting.key(arm) for arm in BASELINE_ARMS}
    return [(arm, key, setting.requests((arm,), prefix=key, size=batch)) for arm, key in keys.items()]


def check_arms(arms: Sequence[str], valid: Sequence[str] | frozenset[str], kind: str) -> None:
    """Refuse an arm that is none, with its nearest."""
    for arm in arms:
        if arm not in valid:
            raise unknown(kind, arm, sorted(valid))


def identity_hash(setting: Setting, arm: str) -> str:
    """Sixteen hex digits that rows of a frozen arm carry: equal where they can stand for one another."""
    assert arm in (*FROZEN_ARMS, *MORE_FROZEN_ARMS), arm
    return fingerprint(setting.identity(arm))[:16]
