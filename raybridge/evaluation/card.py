"""The default command: the arms of a setting, each computed once, as a scorecard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from raybridge import arms as arm_files
from raybridge.analysis.measures import stacked
from raybridge.analysis.scorecard import Scorecard, scorecard
from raybridge.arms import Arm, find
from raybridge.config import resolve
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.cramming import check_few
from raybridge.evaluation.keeping import Keeper
from raybridge.evaluation.provenance import conditions, prompt_of
from raybridge.evaluation.setting import BATCH, Setting
from raybridge.evaluation.trained import Trained, best_of, trial_of
from raybridge.models.hardening import PLAIN
from raybridge.results import Results, TrialRun
from raybridge.results.find import trial_of_translator
from raybridge.translators.wire import FORMATS

TIMED = 20  # problems that are timed one by one: figures draw no times of fewer


def arms_of(
    setting: Setting, trained: Trained | None, results: Results, *, bits: Sequence[int], only: Sequence[str] = ()
) -> list[Arm]:
    """The arms to evaluate, in the order of the tables: all that there are, or those that were named.

    bits: of the wire formats that soft tokens go through; an arm of another format is evaluated where it is named, and so is
    one that is optimised problem by problem.
    """
    widths = {form.bits: name for name, form in FORMATS.items()}
    if unknown_bits := [number for number in bits if number not in widths]:
        raise ValueError(f"--bits {unknown_bits[0]}: valid are {', '.join(map(str, widths))}")
    can = [arm for arm in arm_files.every() if _can(arm, setting, trained, results)]
    if only:
        kind = "arm" if trained is not None else "arm without a translator"
        asked = {find(name, among=sorted(arm.name for arm in can), kind=kind) for name in only}
        check_few(list(asked), setting)
        return [arm for arm in can if arm in asked]
    sent = {widths[number] for number in bits}
    return [arm for arm in can if not arm.crams and (not arm.packed or arm.wire in sent)]


def _can(arm: Arm, setting: Setting, trained: Trained | None, results: Results) -> bool:
    """Whether an arm can be evaluated: a translator is there for it, a number of soft tokens, or a trial to borrow from."""
    if trained is None:
        return arm.frozen and not arm.of_k
    return arm.borrows is None or lender(arm, setting, results) is not None


def lender(arm: Arm, setting: Setting, results: Results) -> TrialRun | None:
    """The complete trial whose rows stand for an arm, that of the same benchmark and number of soft tokens first."""
    assert arm.of_translator is not None, f"{arm.name} borrows from no translator"
    evaluator = resolve(setting.evaluator)
    assert isinstance(evaluator, dict)
    return trial_of_translator(
        results,
        arm.of_translator,
        target=setting.target,
        evaluator=evaluator,
        soft_tokens=setting.soft_tokens,
        but=setting.trial,
    )


def title_of(setting: Setting, trained: Trained | None) -> str:
    """What is evaluated on what."""
    before = f" before {setting.at}" if setting.at else ""
    what = f"{trained.run.path.name} at step {trained.step}{before}" if trained else f"{setting.source} and {setting.target}"
    on = f"{setting.evaluator.name} ({setting.split}, {len(setting.problems)} problems)"
    return f"{what} on {on}" + (f", decoding {setting.hardening.label}" if setting.hardening != PLAIN else "")


def evaluate(
    setting: Setting,
    trained: Trained | None,
    results: Results,
    answerer: Answerer,
    arms: Sequence[Arm],
    *,
    batch: int = BATCH,
    at_least: int = 0,
    timed: int = TIMED,
    tell: Callable[[Arm, int], None] = lambda arm, done: None,
) -> Scorecard:
    """Evaluate the arms, keep their rows, and give the card. batch, at_least: how much a request asks (`Keeper`)."""
    asked = dict(batch=batch, at_least=at_least, timed=timed)
    keeper = Keeper(setting=setting, results=results, answerer=answerer, trained=trained, tell=tell, **asked)
    own = [arm for arm in arms if arm.borrows is None]
    computed = [arm for arm in own if keeper.lacks(arm)]
    if computed:
        check_start(setting, trained, answerer)
    tables, notes = [keeper.rows(own)], [f"{arm.name}: {arm.note}" for arm in own if arm.note]
    if computed:
        results.note_evaluation(record(setting, trained, computed, answerer))
    for arm in arms:
        if arm.borrows is not None:
            run = lender(arm, setting, results)
            assert run is not None, f"{arm.name} has no trial to borrow from"
            tables.append(_borrowed(arm, run, keeper))
            notes.append(f"{arm.name}: what {run.path.name} learned, the same for every problem")
    names = {setting.label(arm): arm.name for arm in arms}
    rows = stacked(*tables).assign(arm=lambda table: table["arm"].map(names))
    rows = pd.concat([rows[rows["arm"] == arm.name] for arm in arms], ignore_index=True)
    return scorecard(
        rows,
        golds=len({problem.gold for problem in setting.problems}),
        evaluator=setting.evaluator.name,
        readings=setting.evaluator.readings,
        split=setting.split,
        step=trained.step if trained else 0,
        title=title_of(setting, trained),
        notes=notes,
    )


def _borrowed(arm: Arm, run: TrialRun, keeper: Keeper) -> pd.DataFrame:
    """An arm of another trial on the same problems, kept with that trial."""
    trial = trial_of(run)
    setting = replace(
        keeper.setting,
        source=trial.source,
        translator=trial.translator,
        soft_tokens=trial.translator.soft_tokens,
        seed=trial.seed,
        trial=trial.fingerprint,
        at="",
    )
    lent = replace(keeper, setting=setting, trained=best_of(run), tell=lambda _, done: keeper.tell(arm, done))
    assert arm.borrows is not None
    return lent.rows([find(arm.borrows)]).assign(arm=keeper.setting.label(arm))


def check_start(setting: Setting, trained: Trained | None, answerer: Answerer) -> None:
    """Assert, on two problems, that training and decoding read the first answer token from the same position."""
    few = replace(setting, problems=setting.problems[:2])
    arm = setting.translator.arm if trained and setting.translator else "no_context"
    (request,) = few.requests((find(arm),))
    answerer.check(request, trained.weights if trained else None)


def record(setting: Setting, trained: Trained | None, arms: Sequence[Arm], answerer: Answerer) -> dict[str, Any]:
    """What is noted of rows that were computed: what was asked, and where the numbers come from."""
    return {
        "trial": setting.trial or None,
        "at": setting.at or None,
        "step": trained.step if trained else None,
        "source": setting.source,
        "target": setting.target,
        "evaluator": resolve(setting.evaluator),
        "split": setting.split,
        "problems": len(setting.problems),
        "arms": [arm.name for arm in arms],
        "decoding": resolve(setting.hardening) if setting.hardening != PLAIN else None,
        "prompt": prompt_of(setting.evaluator),
        "device": answerer.device,
        **conditions(setting.source, setting.target),
    }
