"""What an evaluation asks: which models answer which problems, and a batch of them with the arms to answer it with.

A control may look at what was written for other problems: those of its block. Blocks depend on the setting's problems alone, so
the same rows come back whatever the size of a request, whichever rows are missing, from one replica or from eight.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from raybridge import arms as arm_files
from raybridge.arms import Arm, Label
from raybridge.config import Json, resolve
from raybridge.data import Evaluator, Problem, Split
from raybridge.evaluation.benchmarks import every_problem, some_problems
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.results import baselines
from raybridge.results.contents import Contents
from raybridge.translators import Translator
from raybridge.trial import Trial

BLOCK = 128  # problems of like length among which soft tokens are shuffled and averaged
BATCH = 128  # problems a request
ON_GPU = 512  # rows of a request there, where to decode more at once costs little


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which models are asked which problems, and how they decode.

    seed: the trial's, by which `shuffled` finds another problem for each. trial: the fingerprint of the translator's trial.
    at: the target, where it is another than that trial's own. contents: of what is asked and who answers, as somebody has
    looked at them on this machine. VERSION: raised when every arm is answered otherwise, as by another way of decoding.
    """

    VERSION: ClassVar[int] = 2  # 2: exemplars before every arm's question, and before the worked answer whose NLL is measured

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
    contents: Contents | None = None

    @property
    def ids(self) -> list[str]:
        """The problems' ids, in their order."""
        return [problem.id for problem in self.problems]

    def label(self, arm: Arm) -> str:
        """The name under which an arm's rows are kept."""
        return str(Label(arm=arm.name, hardening=self.hardening.label, at=self.at if arm.trained else ""))

    def digest(self, arm: Arm) -> str | None:
        """What rows of an arm carry to tell what they depend on; None of a translator where nobody looked at contents."""
        if arm.frozen:
            return baselines.digest(self.identity(arm))
        if self.contents is None:
            return None
        contents, evaluator = resolve(self.contents), resolve(self.evaluator)
        assert isinstance(contents, dict)
        identity = baselines.trained_identity(
            arm,
            contents,
            evaluator=evaluator,
            split=self.split,
            trial=self.trial,
            at=self.at,
            decoding=self._decoding,
        )
        return baselines.digest(identity)

    @property
    def _decoding(self) -> Json:
        """How this differs from plain greedy decoding; None where it does not."""
        return resolve(self.hardening) if self.hardening != PLAIN else None

    def identity(self, arm: Arm) -> dict[str, Json]:
        """What the rows of a frozen arm depend on, the choice of problems left out."""
        evaluator, k, decoding = resolve(self.evaluator), self.soft_tokens, self._decoding
        if self.contents is None:
            return baselines.earlier_identity(
                arm, source=self.source, target=self.target, evaluator=evaluator, soft_tokens=k, decoding=decoding
            )
        contents = resolve(self.contents)
        assert isinstance(contents, dict)
        return baselines.identity_of(arm, contents, evaluator=evaluator, split=self.split, soft_tokens=k, decoding=decoding)

    def key(self, arm: Arm) -> str:
        """The name under which a frozen arm is kept."""
        return baselines.key_of(self.identity(arm), self.evaluator.name, self.split, self.ids)

    @property
    def blocks(self) -> list[tuple[Problem, ...]]:
        """The problems, those of like length together; none is alone that need not be: `shuffled` takes another one's."""
        ordered = by_length(self.problems)
        cut = [tuple(ordered[start : start + BLOCK]) for start in range(0, len(ordered), BLOCK)]
        if len(cut) > 1 and len(cut[-1]) == 1:
            cut[-2:] = [cut[-2] + cut[-1]]
        return cut

    def requests(self, arms: Sequence[Arm], *, size: int = BATCH, only: Collection[str] | None = None) -> list[Request]:
        """The batches of these arms. only: ids of the problems that are asked; None for all."""
        if any(arm.of_block for arm in arms) and len(self.problems) < 2:
            raise ValueError(
                "an evaluation needs at least 2 problems: the shuffled control answers with another one's soft tokens"
            )
        blocks = self.blocks
        asked = [(problem, block) for block in blocks for problem in block if only is None or problem.id in only]
        requests = []
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            setting = replace(self, problems=tuple(problem for problem, _ in part))
            beside = {block[0].id: block for _, block in part}
            requests.append(Request(setting=setting, arms=tuple(arms), blocks=tuple(beside.values())))
        return requests


@dataclass(frozen=True, kw_only=True)
class Request:
    """One batch of work: a setting of these problems alone, and the arms to answer them with.

    blocks: those that its problems stand in, whole. answers: by arm, one a problem, for the arms that pass them on.
    """

    setting: Setting
    arms: tuple[Arm, ...]
    blocks: tuple[tuple[Problem, ...], ...]
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The batch."""
        return self.setting.problems

    def only(self, rows: Sequence[int]) -> Request:
        """Some rows of it; the blocks that they stand in stay whole."""
        problems = tuple(self.problems[row] for row in rows)
        answers = {handed: tuple(texts[row] for row in rows) for handed, texts in self.answers.items()}
        return replace(self, setting=replace(self.setting, problems=problems), answers=answers)

    @property
    def trained(self) -> bool:
        """Whether it needs a translator's weights."""
        return any(arm.trained for arm in self.arms)


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
        contents=trial.contents,
    )


def problems_of(trial: Trial, split: Split) -> list[Problem]:
    """The problems of a split that the trial is judged on, in the order of every evaluation of it."""
    count = {"dev": trial.dev_problems, "test": trial.test_problems}.get(split)
    evaluator = trial.evaluator
    return list(every_problem(evaluator, split) if count is None else some_problems(evaluator, split, count))


def by_length(problems: Iterable[Problem]) -> list[Problem]:
    """Problems from the shortest question to the longest, the same whatever order they came in."""
    return sorted(problems, key=lambda problem: (len(problem.question), problem.id))


def trial_arms(translator: Translator, split: Split) -> tuple[Arm, ...]:
    """The arms by which a trial is judged on a split: those of every trial, and the one that its translator is trained for.

    On dev that one is evaluated with its control, for the trial is selected and stopped by it.
    """
    own = arm_files.find(translator.arm)
    judging = (own.name, own.against) if split == "dev" else ()
    return tuple(arm for arm in arm_files.every() if arm.trained and (split in arm.in_sweeps or arm.name in judging))


def frozen_arms(split: Split) -> tuple[Arm, ...]:
    """The arms without a translator that every sweep computes on a split."""
    return tuple(arm for arm in arm_files.every() if arm.frozen and split in arm.in_sweeps)
