"""A refusal that one of two workers meets ends both within seconds, wherever it is met."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import pytest
import torch
from quick import FITTED_FROM, quick_start, short_answers
from two_workers import on_two_workers

from raybridge.evaluation.answerer import Local
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.models import Models
from raybridge.results import Results, TrialRun
from raybridge.scales import POCKET
from raybridge.training import fitting, start
from raybridge.training.loop import train
from raybridge.training.start import Begun, begun_alike
from raybridge.training.step import check_gradient
from raybridge.world import World

ALONE = {  # what rank 0 does alone
    **dict.fromkeys(("truncate_metrics", "append_metrics", "write_checkpoint", "keep_checkpoints"), TrialRun),
    **dict.fromkeys(("add_evals", "write_samples", "write_trained"), TrialRun),
    **dict.fromkeys(("submit", "collect"), Evaluations),
}


def refuse(*args, **kwargs):
    raise ValueError("refused here")


def moved(module, batches) -> None:
    fitting.fit(module, batches, problems=FITTED_FROM)
    with torch.no_grad():
        next(module.parameters()).add_(1)


def endings(world: World, trial, root) -> dict[str, tuple[str, float]]:
    """By what was refused: how this rank ended, and after how many seconds."""
    models = Models("cpu")

    def ends(name: str) -> str:
        run = Results(root / name).open_trial(name=name, fingerprint=trial.fingerprint, config={}, provenance={})
        try:
            return train(
                trial,
                run=run,
                source=models.load(trial.source),
                target=models.load(trial.target),
                world=world,
                evaluations=Evaluations(trial, Local(models)),
                report=lambda row: None,
                interrupted=lambda: False,
            )
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    patches = [(name, 0, mock.patch.object(kind, name, refuse)) for name, kind in ALONE.items()]
    patches.append(("restored", 1, mock.patch.object(start, "fit", refuse)))
    patches.append(("weights", 1, mock.patch.object(start, "fit", moved)))
    told = {}
    for name, where, patch in patches:
        started = time.monotonic()
        with short_answers(), quick_start(), patch if world.rank == where else nullcontext():
            said = ends(name)
        told[name] = said, time.monotonic() - started
    return told


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> list[dict[str, tuple[str, float]]]:
    """How each of the two ranks ended."""
    translator = replace(POCKET.trial.translator, soft_tokens=4, width=32, depth=1, heads=2)
    cut = dict(steps=4, warmup=1, batch=4, eval_every=2, dev_problems=4, test_problems=4)
    trial = replace(POCKET.trial, name="tiny", translator=translator, **cut)
    return on_two_workers(endings, trial, tmp_path_factory.mktemp("refused"), seconds=380)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [*ALONE, "restored"])
def test_what_one_worker_refuses_ends_both_with_its_sentence(heard, name):
    assert [told[name][0] for told in heard] == ["ValueError: refused here"] * 2
    assert abs(heard[0][name][1] - heard[1][name][1]) < 20


@pytest.mark.timeout(400)
def test_workers_that_would_begin_with_other_weights_are_refused(heard):
    said = "ValueError: worker 1 begins at step 0 with other weights than worker 0"
    assert [told["weights"][0] for told in heard] == [said, said]


def test_a_worker_that_sees_another_checkpoint_is_told_of_the_shared_folder():
    zero, four = (Begun(step=step, ended=None, seconds=0.0) for step in (0, 4))
    assert begun_alike([four, four]) == four
    with pytest.raises(ValueError, match=r"worker 1 finds the checkpoint of step 0 and worker 0 that of step 4: .* share"):
        begun_alike([four, zero])


def test_a_gradient_that_is_no_number_is_refused_by_its_step():
    check_gradient(1.0, 6)
    with pytest.raises(ValueError, match="the gradient is inf at step 7"):
        check_gradient(float("inf"), 6)
