"""A translator as its trial left it, and the setting in which it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from raybridge.config import rebuild
from raybridge.data import Evaluator, Problem, Split, draw
from raybridge.evaluation.benchmarks import every_problem
from raybridge.evaluation.identity import check_same, contents_of, device_here
from raybridge.evaluation.setting import Setting, setting_of
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.results import TrialRun
from raybridge.translators.interlingua import turned_to
from raybridge.translators.weights import read_weights
from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trial's translator at a step."""

    run: TrialRun
    step: int
    weights: Mapping[str, Tensor]


def best_step(run: TrialRun) -> int:
    """The step whose translator dev chose."""
    result = run.result()
    if result is None or "best_step" not in result:
        raise ValueError(f"{run.path.name} has no result yet: its best checkpoint on dev is known when its sweep has ended")
    return int(result["best_step"])


def best_of(run: TrialRun) -> Trained:
    """The translator of a run at its best step on dev, whose checkpoint must be there."""
    step = best_step(run)
    if step not in run.checkpoints():
        raise ValueError(
            f"{run.path.name} has no checkpoint of step {step}, its best on dev; restore it or run the trial again"
        )
    return Trained(run=run, step=step, weights=read_weights(run.checkpoint_path(step)))


def trial_of(run: TrialRun) -> Trial:
    """The trial of a run, which must be one of ours."""
    config = run.config
    if config.get("imported"):
        raise ValueError(f"{run.path.name} was imported: there is no translator to evaluate; compare and summarize read it")
    if config.get("bundle"):
        raise ValueError(
            f"{run.path.name} came with a bundle, which `evaluate verify` asks again; compare, summarize and the plots read it"
        )
    contents = run.contents
    try:
        trial = rebuild(config | ({"contents": contents} if contents else {}))
    except ValueError as error:
        raise ValueError(
            f"{run.path.name} is of another raybridge and cannot be evaluated by this one: {error}; what is kept of it "
            "is still compared, summarized and drawn, and its sweep runs it anew"
        ) from error
    assert isinstance(trial, Trial)
    return trial


def of_trial(
    run: TrialRun,
    *,
    evaluator: Evaluator | None,
    split: Split,
    count: int | None,
    hardening: Hardening = PLAIN,
    target: str | None = None,
    device: str | None = None,
) -> tuple[Setting, Trained]:
    """A trained translator at its best step on dev; `evaluator` None is the trial's own benchmark.

    target: None or another target of an interlingua, before which it is judged on the same problems. device: of what answers;
    None is a GPU if there is one.
    """
    trial, trained = trial_of(run), best_of(run)
    judge = evaluator if evaluator is not None and evaluator.name != trial.evaluator.name else trial.evaluator
    own = judge is trial.evaluator and count is None
    problems = setting_of(trial, split).problems if own else chosen(judge, split, count)
    translator, weights = trial.translator, trained.weights
    at = "" if target in (None, trial.target) else str(target)
    if at:
        translator, weights = turned_to(at, translator, weights, own=trial.target)
    if judge is not trial.evaluator:
        check_unlearned(trial, judge, problems, where=run.path.name)
    contents = None
    if trial.contents is not None:
        read = contents_of(
            trial.source,
            at or trial.target,
            judge,
            others=trial.translator.other_targets,
            splits=(split,),
            device=device or device_here(),
        )
        check_same(trial, read, at=at, split=split, own=judge is trial.evaluator, where=run.path.name)
        contents = read
    setting = Setting(
        source=trial.source,
        target=at or trial.target,
        evaluator=judge,
        split=split,
        problems=problems,
        translator=translator,
        soft_tokens=trial.translator.soft_tokens,
        seed=trial.seed,
        trial=trial.fingerprint,
        hardening=hardening,
        at=at,
        contents=contents,
    )
    return setting, Trained(run=run, step=trained.step, weights=weights)


def check_unlearned(trial: Trial, judge: Evaluator, problems: Sequence[Problem], *, where: str) -> None:
    """Refuse to judge a translator by problems of another benchmark that it was trained on. where: what to call it."""
    seen = trial.mixture.texts_in(trial.evaluator, problems) if trial.mixture else 0
    if seen:
        raise ValueError(
            f"{where} was trained on texts of {seen} of these {len(problems)} problems of {judge.name}: name the benchmark in "
            "`held_out` of its mixture, and train it again"
        )


def of_models(
    source: str,
    target: str,
    *,
    evaluator: Evaluator,
    split: Split,
    count: int | None,
    hardening: Hardening = PLAIN,
    device: str | None = None,
) -> Setting:
    """Two models without a translator: the arms that need none. device: of what answers; None is a GPU if there is one."""
    return Setting(
        source=source,
        target=target,
        evaluator=evaluator,
        split=split,
        problems=chosen(evaluator, split, count),
        hardening=hardening,
        contents=contents_of(source, target, evaluator, splits=(split,), device=device or device_here()),
    )


def chosen(evaluator: Evaluator, split: Split, count: int | None) -> tuple[Problem, ...]:
    """All problems of a split in their order, or `count` of them drawn by seed 0."""
    problems = every_problem(evaluator, split)
    return tuple(problems if count is None or count == len(problems) else draw(problems, count, seed=0))
