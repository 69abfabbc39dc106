"""What a trial reads, by content, as it is on this machine: looked at by whoever starts it, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import cast

import torch

from raybridge import arms
from raybridge.config import resolve
from raybridge.data import SPLITS, Evaluator, Split, data_folder
from raybridge.data.texts import Mixture
from raybridge.evaluation.benchmarks import every_problem
from raybridge.evaluation.setting import Setting
from raybridge.models.identity import ModelIdentity, digest, model_identity
from raybridge.models.lm import FrozenLM, precision
from raybridge.models.prompts import REPEAT_CUE, frame
from raybridge.results.contents import BenchmarkContents, Contents, ModelContents, changes
from raybridge.trial import Trial

PROBE = "How many is 17 times 3?"  # a question whose prompts are compared: every prompt is rendered as this one is


def sealed(trial: Trial, *, device: str) -> Trial:
    """The trial with what it reads, of which its fingerprint is made. device: what computes it, as torch calls its kind."""
    contents = contents_of(
        trial.source,
        trial.target,
        trial.evaluator,
        others=trial.translator.other_targets,
        splits=SPLITS,
        device=device,
    )
    if trial.mixture:
        contents = replace(contents, texts=texts_digest(trial.mixture, trial.evaluator, str(data_folder())))
    return replace(trial, contents=contents)


def check_same(trial: Trial, now: Contents, *, at: str, split: Split, own: bool, where: str) -> None:
    """Refuse a trained translator where what it was trained with is not what is here, as far as it is asked about.

    at: another target before which it stands, or empty. own: whether it is asked its own benchmark. where: what to call it.
    """
    was = trial.contents
    if was is None:
        return
    others = {part: getattr(was.benchmark, part) for part in SPLITS if part != split}
    as_asked = replace(
        now,
        device=was.device,
        precision=was.precision,
        texts=was.texts,
        target=was.target if at else now.target,
        benchmark=replace(now.benchmark, target_prompt=was.benchmark.target_prompt, **others) if own else was.benchmark,
    )
    if told := differences(was, as_asked):
        raise ValueError(f"{where} was trained with what is no longer here: {told}; run its sweep again")


def check_models(trial: Trial, *, where: str) -> None:
    """Refuse a trained translator where models or prompts are others than it was trained with. where: what to call it."""
    was = trial.contents
    if was is None:
        return
    read, written = model_identity(trial.source), model_identity(trial.target)
    now = replace(
        was,
        source=contents_of_model(read),
        target=contents_of_model(written),
        benchmark=replace(
            was.benchmark,
            source_prompt=prompt_digest(read, trial.evaluator),
            target_prompt=prompt_digest(written, trial.evaluator),
        ),
    )
    if told := differences(was, now):
        raise ValueError(f"{where} was trained with what is not here: {told}")


def differences(was: Contents, now: Contents) -> str:
    """What is another in contents than it was, in a sentence's words; empty for nothing."""
    before, after = resolve(was), resolve(now)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    return "; ".join(changes(before, after))


def device_here() -> str:
    """The kind of device that computes here unless another is asked for."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def contents_of(
    source: str,
    target: str,
    evaluator: Evaluator,
    *,
    splits: Sequence[Split],
    device: str,
    others: Sequence[str] = (),
) -> Contents:
    """The contents of two models and of these splits of a benchmark. ValueError where one of them is not here."""
    read, written = model_identity(source), model_identity(target)
    problems = {split: problems_digest(evaluator, split, str(data_folder())) for split in splits}
    benchmark = BenchmarkContents(
        readings=evaluator.readings,
        instruction=evaluator.instruction,
        before=evaluator.before,
        after=evaluator.after,
        stop=evaluator.stop,
        max_new_tokens=evaluator.max_new_tokens,
        exemplars=exemplars_digest(evaluator, str(data_folder())),
        source_prompt=prompt_digest(read, evaluator),
        target_prompt=prompt_digest(written, evaluator),
        **problems,
    )
    return Contents(
        source=contents_of_model(read),
        target=contents_of_model(written),
        others=tuple(contents_of_model(model_identity(name)) for name in others),
        benchmark=benchmark,
        device=device,
        precision=str(precision(torch.device(device))).removeprefix("torch."),
        answering=Setting.VERSION,
        arms=tuple(f"{arm.name} {arm.version}" for arm in arms.every() if arm.trained and arm.version > 1),
    )


def contents_of_model(model: ModelIdentity) -> ModelContents:
    """What counts of a model."""
    return ModelContents(weights=model.weights, tokenizer=model.vocabulary, template=model.template)


@cache
def problems_digest(evaluator: Evaluator, split: Split, folder: str) -> str:
    """Of all that a split's problems say, not of their ids. folder: where data are."""
    return digest([[one.question, one.gold, one.rationale, *one.also] for one in every_problem(evaluator, split)])


@cache
def exemplars_digest(evaluator: Evaluator, folder: str) -> str:
    """Of what the worked exemplars say."""
    return digest([[shot.question, shot.gold, shot.rationale] for shot in evaluator.exemplars()])


@cache
def texts_digest(mixture: Mixture, own: Evaluator, folder: str) -> str:
    """Of the texts of a mixture, kind by kind in their order. folder: where data are."""
    return digest([list(pool.texts) for pool in mixture.pools(own)])


def prompt_digest(model: ModelIdentity, evaluator: Evaluator) -> str:
    """Of a question put to a model, to be answered and to be repeated: the text, its tokens and those of an answer."""
    lm = cast(FrozenLM, model)  # a prompt is made of its tokenizer alone
    frames = [frame(lm, evaluator), frame(lm, evaluator, after=REPEAT_CUE)]
    return digest([[one.whole(PROBE), one.prompt(PROBE), one.answers([PROBE])] for one in frames])
