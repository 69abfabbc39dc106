"""The default command of `python -m raybridge.evaluate`: what is asked of it, as a setting, and the card that comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from raybridge.analysis.measures import FROZEN_ARMS, MORE_FROZEN_ARMS, OF_K, QUANTISED_ARMS, TRANSLATOR_ARMS, stacked
from raybridge.analysis.scorecard import ARMS, Scorecard, scorecard
from raybridge.config import rebuild, resolve
from raybridge.data import Evaluator, Problem, Split, draw
from raybridge.evaluation.keeping import Assessment, Trained
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import ask, exemplars_of
from raybridge.evaluation.provenance import conditions, prompt_identity
from raybridge.evaluation.scoring import check_alignment
from raybridge.evaluation.setting import BATCH, Setting, check_arms, setting_of
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.results import Results, TrialRun
from raybridge.translators.interlingua import turned_to
from raybridge.translators.weights import read_weights
from raybridge.translators.wire import FORMATS
from raybridge.trial import Trial

CONSTANT = "prompt_tuning"  # the arm that answers with a learned constant prompt: the bridged arm of another trial
TIMED = 2  # problems that are timed one by one

Tell = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One evaluation as it is asked for. own: the setting that the trial was judged in, where the benchmark is its own."""

    setting: Setting
    trained: Trained | None = None
    own: Setting | None = None

    @property
    def title(self) -> str:
        """What is evaluated on what."""
        setting, trained = self.setting, self.trained
        before = f" before {setting.at}" if setting.at else ""
        what = (
            f"{trained.run.path.name} at step {trained.step}{before}" if trained else f"{setting.source} and {setting.target}"
        )
        on = f"{setting.evaluator.name} ({setting.split}, {len(setting.problems)} problems)"
        return f"{what} on {on}" + (f", decoding {setting.hardening.label}" if setting.hardening != PLAIN else "")


def of_trial(
    run: TrialRun,
    *,
    evaluator: Evaluator | None,
    split: Split,
    count: int | None,
    hardening: Hardening = PLAIN,
    target: str | None = None,
) -> Question:
    """A trained translator at its best step on dev; `evaluator` None is the trial's own benchmark.

    target: None or another target of an interlingua, before which it is judged on the same problems.
    """
    trial, step = trial_of(run), best_step(run)
    judge = evaluator if evaluator is not None and evaluator.name != trial.evaluator.name else trial.evaluator
    own = setting_of(trial, split) if judge is trial.evaluator else None
    problems = own.problems if own is not None and count is None else chosen(judge, split, count)
    translator, weights = trial.translator, read_weights(run.checkpoint_path(step))
    at = "" if target in (None, trial.target) else str(target)
    if at:
        translator, weights = turned_to(at, translator, weights, own=trial.target)
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
    )
    return Question(setting=setting, trained=Trained(run=run, step=step, weights=weights), own=None if at else own)


def of_models(
    source: str, target: str, *, evaluator: Evaluator, split: Split, count: int | None, hardening: Hardening = PLAIN
) -> Question:
    """Two models without a translator: the arms that need none."""
    problems = chosen(evaluator, split, count)
    setting = Setting(source=source, target=target, evaluator=evaluator, split=split, problems=problems, hardening=hardening)
    return Question(setting=setting)


def trial_of(run: TrialRun) -> Trial:
    """The trial of a run, which must be one of ours."""
    config = run.config
    if config.get("imported"):
        raise ValueError(f"{run.path.name} was imported: there is no translator to evaluate; compare and summarize read it")
    trial = rebuild(config)
    assert isinstance(trial, Trial)
    return trial


def best_step(run: TrialRun) -> int:
    """The step that was best on dev, whose checkpoint must be there."""
    result = run.result()
    if result is None:
        raise ValueError(f"{run.path.name} has no result yet: its best checkpoint on dev is known when its sweep has ended")
    step = int(result["best_step"])
    if step not in run.checkpoints():
        raise ValueError(
            f"{run.path.name} has no checkpoint of step {step}, its best on dev; restore it or run the trial again"
        )
    return step


def chosen(evaluator: Evaluator, split: Split, count: int | None) -> tuple[Problem, ...]:
    """All problems of a split in their order, or `count` of them drawn by seed 0."""
    problems = evaluator.problems(split)
    return tuple(problems if count is None or count == len(problems) else draw(problems, count, seed=0))


def arms_of(question: Question, results: Results, *, bits: Sequence[int], only: Sequence[str] = ()) -> list[str]:
    """The arms to evaluate, in the order of the tables: all that there are, or those that were named."""
    formats = {form.bits: f"bridged_{name}" for name, form in FORMATS.items()}
    if unknown_bits := [number for number in bits if number not in formats]:
        raise ValueError(f"--bits {unknown_bits[0]}: valid are {', '.join(map(str, formats))}")
    translated = {*TRANSLATOR_ARMS, *OF_K} - set(QUANTISED_ARMS) | {formats[number] for number in bits}
    there = {*FROZEN_ARMS, *MORE_FROZEN_ARMS} - set(OF_K)
    if question.trained is not None:
        there |= translated
        if constant_prompt(question, results) is not None:
            there.add(CONSTANT)
    if only:
        valid = there | set(QUANTISED_ARMS) if question.trained is not None else there
        check_arms(only, frozenset(valid), "arm" if question.trained is not None else "arm without a translator")
        there = set(only)
    return [arm for arm in ARMS if arm in there]


def constant_prompt(question: Question, results: Results) -> TrialRun | None:
    """A complete prompt-tuning trial for the same target and benchmark, that of the same number of soft tokens first."""
    setting = question.setting
    found = []
    for run in results.trials():
        config = run.config
        if not run.complete or config.get("imported") or run.fingerprint == setting.trial:
            continue
        translator = config["translator"]
        if translator["class"].endswith(":PromptTuning") and config["target"] == setting.target:
            evaluator = (
                config["evaluator"]["class"] == f"{type(setting.evaluator).__module__}:{type(setting.evaluator).__name__}"
            )
            found.append((not evaluator, abs(translator["soft_tokens"] - setting.soft_tokens), run.path.name, run))
    return min(found)[-1] if found else None


def judge(
    question: Question,
    results: Results,
    models: Models,
    arms: Sequence[str],
    *,
    batch: int = BATCH,
    alone: int = TIMED,
    tell: Tell = lambda arm, done: None,
) -> Scorecard:
    """Evaluate the arms, keep their rows, and give the card."""
    setting, notes = question.setting, []
    assessment = Assessment(
        setting=setting,
        results=results,
        models=models,
        trained=question.trained,
        batch=batch,
        alone=alone,
        also={arm: question.own.key(arm) for arm in FROZEN_ARMS} if question.own and setting.hardening == PLAIN else {},
        tell=tell,
    )
    computed = [arm for arm in arms if arm != CONSTANT and assessment.lacks(arm)]
    if computed:
        check_start(question, models)
    tables = [assessment.rows([arm for arm in arms if arm != CONSTANT])]
    if computed:
        results.note_evaluation(record(question, computed, models))
    if CONSTANT in arms:
        run = constant_prompt(question, results)
        assert run is not None
        tables.append(_constant(run, assessment))
        notes.append(f"{CONSTANT}: the soft tokens that {run.path.name} learned, the same for every problem")
    names = {setting.label(arm): arm for arm in arms}
    rows = stacked(*tables).assign(arm=lambda table: table["arm"].map(names))
    rows = pd.concat([rows[rows["arm"] == arm] for arm in arms], ignore_index=True)
    step = question.trained.step if question.trained else 0
    return scorecard(
        rows,
        setting.problems,
        evaluator=setting.evaluator.name,
        readings=setting.evaluator.readings,
        split=setting.split,
        step=step,
        title=question.title,
        notes=notes,
    )


def record(question: Question, arms: Sequence[str], models: Models) -> dict[str, Any]:
    """What is noted of rows that were computed: what was asked, and where the numbers come from."""
    setting = question.setting
    return {
        "trial": setting.trial or None,
        "at": setting.at or None,
        "step": question.trained.step if question.trained else None,
        "source": setting.source,
        "target": setting.target,
        "evaluator": resolve(setting.evaluator),
        "split": setting.split,
        "problems": len(setting.problems),
        "arms": list(arms),
        "decoding": resolve(setting.hardening) if setting.hardening != PLAIN else None,
        "prompt": prompt_of(setting.evaluator),
        "device": str(models.device),
        **conditions(setting.source, setting.target),
    }


def prompt_of(evaluator: Evaluator) -> dict[str, Any]:
    """What identifies a benchmark's prompts: hashes of the template and of the exemplars, and the exemplars' ids."""
    shots = "\0".join(f"{shot.question}\0{shot.rationale}" for shot in exemplars_of(evaluator))
    return {**prompt_identity(evaluator), "exemplars_sha256": hashlib.sha256(shots.encode()).hexdigest()}


def check_start(question: Question, models: Models) -> None:
    """Assert, on two problems, that training and decoding read the first answer token from the same position."""
    few = replace(question.setting, problems=question.setting.problems[:2])
    arm = "bridged" if question.trained else "no_context"
    (request,) = few.requests((arm,), prefix="alignment")
    soft_BKD = models.soft_tokens(request, question.trained.weights) if question.trained else None
    check_alignment(ask(request, models, arm, soft_BKD, shots=False))


def _constant(run: TrialRun, like: Assessment) -> pd.DataFrame:
    """The bridged arm of a prompt-tuning trial on the same problems, kept with that trial."""
    trial, step = trial_of(run), best_step(run)
    setting = replace(
        like.setting,
        source=trial.source,
        translator=trial.translator,
        soft_tokens=trial.translator.soft_tokens,
        seed=trial.seed,
        trial=trial.fingerprint,
        at="",
    )
    trained = Trained(run=run, step=step, weights=read_weights(run.checkpoint_path(step)))
    rows = replace(like, setting=setting, trained=trained, also={}, tell=lambda _, done: like.tell(CONSTANT, done)).rows(
        ["bridged"]
    )
    return rows.assign(arm=like.setting.label(CONSTANT))
