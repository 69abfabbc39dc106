"""Trial: one fully resolved experiment, and what any other kind of experiment must offer to be run as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

from raybridge import arms
from raybridge.config import Json, check_seed, identity, later, resolve, typed
from raybridge.data import Evaluator
from raybridge.data.texts import Mixture
from raybridge.losses import Loss
from raybridge.results import TrialRun
from raybridge.results.contents import Contents
from raybridge.results.gaps import Gaps, gaps_of
from raybridge.results.headline import Headline
from raybridge.stopping import Stopping
from raybridge.translators import Translator
from raybridge.translators.optimizer import Muon

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SMOKED = 64  # questions that the target of a smoke trial answers itself
TOKENS_IN_NAME = re.compile(r"_(\d+)tok\b")


class Workload(Protocol):
    """An experiment that a sweep may ask for: a frozen config that says what it is, and by name what runs it.

    ENGINE: the module that runs it (training.worker.Engine), by its dotted name, for it stands above what it runs.
    steps: after which it ends by itself. models: the language models that it needs. headline: what it is followed by.
    One that a `follow_up` should be tried with may also have `imagined(accuracy)`, a result as it might leave it.
    """

    ENGINE: ClassVar[str]

    @property
    def name(self) -> str:
        """A label: two experiments with the same fingerprint are the same."""

    @property
    def seed(self) -> int:
        """What its random numbers come from."""

    @property
    def steps(self) -> int:
        """How many steps it may take."""

    @property
    def fingerprint(self) -> str:
        """Its identity: `config.identity` of it."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the language models that it needs."""

    @property
    def headline(self) -> Headline:
        """The measure that it is followed by."""

    def resolved(self) -> dict[str, Json]:
        """The whole experiment as JSON: what trial.json holds and `config.rebuild` reads."""

    def planned(self) -> Mapping[str, str]:
        """Its row in the plan of a sweep: heading to text."""

    def gaps(self, run: TrialRun) -> Gaps:
        """What a complete run of it has lost of its results, of which some are computed again when its sweep is launched."""

    def smoke(self) -> Self:
        """The same cut to a few steps: it shows that everything runs, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class OwnAnswers:
    """The target's own answers to questions of train, as it completes them from text in the frame of evaluation, greedily.

    right: those alone that are right by the benchmark's first reading; otherwise all that are not cut off. problems: of how
    many questions, drawn by seed 0; None for all. varied: how many times each of these questions is asked again with other
    numbers (`data.varied`), of which nobody knows what is right. A question without such an answer is no problem of the trial.
    """

    VERSION: ClassVar[int] = 1

    right: bool = True
    problems: int | None = None
    varied: int = later(0)

    def __post_init__(self) -> None:
        typed(self)
        if self.varied < 0 or (self.varied and self.right):
            raise ValueError(
                f"own answers: varied must be at least 0, and needs right=False, for nobody knows which answers to questions "
                f"with other numbers are right; not varied={self.varied} and right={self.right}"
            )
        if self.problems is not None and self.problems < 1:
            raise ValueError(f"own answers: problems must be at least 1, not {self.problems}")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One experiment: what is trained, on what, for how long, and how it is judged.

    batch: problems and further texts a step over all workers. mixture: which texts, None for none; what is left of the batch
    are problems. own_answers: None trains on the worked answers of the benchmark. exemplars: whether those of the benchmark
    stand before a question that is answered in training, as they do in evaluation. warmup: steps. learning_rate: peak, reached
    after warm-up, linear to zero. muon: what moves the translator's linear maps; None leaves them to AdamW, as all else is.
    eval_every: steps between dev evaluations. dev_problems, test_problems: how many are drawn by seed 0, None for all. The name
    is a label: two trials with the same fingerprint are the same trial. contents: what the models, the data and the prompts
    are, which whoever starts it has looked at (`evaluation.identity.sealed`); a sweep file leaves it out.
    """

    VERSION: ClassVar[int] = 1
    ENGINE: ClassVar[str] = "raybridge.training.workload"

    name: str
    source: str
    target: str
    translator: Translator
    losses: tuple[Loss, ...]
    evaluator: Evaluator
    seed: int = 1234
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    weight_decay: float = 0.01
    clip: float = 1.0
    eval_every: int
    dev_problems: int | None
    test_problems: int | None
    stopping: Stopping = Stopping()
    mixture: Mixture | None = later(None)
    own_answers: OwnAnswers | None = later(None)
    exemplars: bool = later(False)
    muon: Muon | None = later(None)
    contents: Contents | None = later(None)

    def __post_init__(self) -> None:
        typed(self)
        if not NAME.fullmatch(self.name):
            raise ValueError(f"trial name {self.name!r} must be letters, digits, '_', '.' and '-'")
        for field in ("steps", "batch", "eval_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"trial {self.name}: {field} must be at least 1, not {getattr(self, field)}")
        for field in ("dev_problems", "test_problems"):
            if getattr(self, field) is not None and getattr(self, field) < 2:
                raise ValueError(f"trial {self.name}: {field} must be at least 2 (the shuffled control needs another problem)")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"trial {self.name}: warmup must lie in 0..{self.steps - 1} (steps - 1), not {self.warmup}")
        if not self.learning_rate > 0 or not self.clip > 0 or self.weight_decay < 0:
            raise ValueError(f"trial {self.name}: learning_rate and clip must be above 0, weight_decay at least 0")
        check_seed(f"trial {self.name}: seed", self.seed)
        for field in ("source", "target"):
            if not getattr(self, field).strip():
                raise ValueError(f"trial {self.name}: {field} must name a model, not {getattr(self, field)!r}")
        if not self.losses:
            raise ValueError(f"trial {self.name} has no losses: nothing would move the translator")
        names = [loss.name for loss in self.losses]
        if len(set(names)) < len(names):
            raise ValueError(f"trial {self.name}: a loss occurs twice among {', '.join(names)}")
        assert self.problems_a_batch > 0, "a mixture leaves problems in a batch or is refused"
        claimed = TOKENS_IN_NAME.search(self.name)
        if claimed and int(claimed[1]) != self.translator.soft_tokens:
            raise ValueError(f"trial {self.name} is named {claimed[0][1:]} but has {self.translator.soft_tokens} soft tokens")

    def resolved(self) -> dict[str, Json]:
        """The whole trial as JSON, with its contents: what trial.json holds and `config.rebuild` reads."""
        plain = resolve(self)
        assert isinstance(plain, dict)
        return plain

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but the name. With its contents a model is what its files are, whatever it is called."""
        return identity(self, but=("name",) if self.contents is None else ("name", "source", "target"))

    @property
    def models(self) -> tuple[str, ...]:
        """The source and the target."""
        return tuple(dict.fromkeys((self.source, self.target)))

    @property
    def texts_a_batch(self) -> tuple[int, ...]:
        """Further texts of each kind in every batch."""
        return self.mixture.counts(self.batch) if self.mixture else ()

    @property
    def problems_a_batch(self) -> int:
        """Problems in every batch."""
        return self.batch - sum(self.texts_a_batch)

    @property
    def points(self) -> list[int]:
        """Steps after which it is evaluated on dev."""
        return [*range(self.eval_every, self.steps, self.eval_every), self.steps]

    def gaps(self, run: TrialRun) -> Gaps:
        """What a complete run of it has lost."""
        return gaps_of(run, evaluator=self.evaluator.name, points=self.points)

    @property
    def headline(self) -> Headline:
        """What it is followed by: dev accuracy by the reading that decides, beside its control."""
        arm, reading = arms.find(self.translator.arm), self.evaluator.readings[0]
        assert arm.against is not None, f"{arm.name} has no control"
        name, of = "dev accuracy", {"arm": arm.name, "control": arm.against}
        return Headline(name=name, column="accuracy", **of, split="dev", reading=reading)

    def planned(self) -> dict[str, str]:
        """Its row in the plan of a sweep: how much crosses, for how long it is trained, and on what."""
        losses = ", ".join(f"{loss.weight:g} {loss.name}" for loss in self.losses)
        models, on = f"{self.source} to {self.target}", self.evaluator.name
        return {
            **{"K": str(self.translator.soft_tokens), "steps": str(self.steps), "losses": losses},
            **{"models": models, "benchmark": f"{on}, {self.test_problems or 'all'} test problems"},
            **({"learns from": learned} if (learned := self._learned_from) else {}),
        }

    @property
    def _learned_from(self) -> str:
        """What its batches are made of, where that is not the benchmark's problems alone."""
        kinds = zip(self.texts_a_batch, self.mixture.parts if self.mixture else (), strict=True)
        texts = [f"{count} {type(part).__name__}" for count, part in kinds]
        told = [f"a batch of {self.problems_a_batch} problems, {', '.join(texts)}"] if texts else []
        if self.own_answers:
            times = self.own_answers.varied
            again = f", also to its questions {times} times with other numbers" if times else ""
            told.append(f"{'right' if self.own_answers.right else 'all'} own answers of the target{again}")
        return "; ".join([*told, *(["exemplars in the context"] if self.exemplars else [])])

    def imagined(self, accuracy: float) -> dict[str, Any]:
        """A result.json as the trial might leave it, every accuracy the same. What the keys mean is in docs/schema.md."""
        ended = {"name": self.name, "fingerprint": self.fingerprint, "steps": self.steps, "stopped": "finished", "reason": ""}
        ended["arm"] = self.translator.arm
        at = {"peak_step": self.steps, "best_step": self.steps}
        dev = {"peak": accuracy, "best": accuracy, "final": accuracy, "degradation": 0.0, **at}
        score = {"accuracy": accuracy, "n": self.test_problems or 1, "low": accuracy, "high": accuracy, "nll": 1.0}
        tested = [arm.name for arm in arms.every() if arm.trained and "test" in arm.in_sweeps]
        test = {arm: {reading: dict(score) for reading in self.evaluator.readings} for arm in tested}
        spent = {"gpus": 1, "train_seconds": float(self.steps), "eval_wait_seconds": 0.0}
        return {**ended, **dev, "shuffled_dev_at_peak": 0.0, "test": test, **spent}

    def smoke(self) -> Trial:
        """The same trial cut to a few steps and problems: it shows that everything runs, and nothing else."""
        batch, warmup, own = min(self.batch, 16), min(self.warmup, 5), self.own_answers
        own = own and replace(own, problems=min(own.problems or SMOKED, SMOKED))
        few = replace(self, steps=20, warmup=warmup, eval_every=10, dev_problems=16, test_problems=16, batch=batch)
        return replace(few, own_answers=own)
