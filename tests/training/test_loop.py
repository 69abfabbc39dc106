"""The training loop on the pocket pair: resumed against undisturbed, two workers against one, and what it refuses."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import ClassVar

import local_runs
import pandas as pd
import pytest
import torch
from quick import FITTED_FROM
from two_workers import on_two_workers

from raybridge.evaluation.answerer import Local
from raybridge.evaluation.conditioning import LOOKED_AT
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.setting import problems_of
from raybridge.losses import Loss
from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.models import lm
from raybridge.models.prompts import frame
from raybridge.results import Results, TrialRun
from raybridge.stopping import Stopping
from raybridge.training import checkpoint, loop
from raybridge.training.fitting import fit
from raybridge.training.step import build_trainer, check_finite, learning_rate_share
from raybridge.translators.weights import read_weights
from raybridge.world import World


@pytest.fixture(autouse=True, scope="module")
def logged_often():
    """A trial of six steps has two lines of metrics: of its first step, and of its fourth, behind its first point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 4)
        yield


@pytest.fixture(scope="module")
def short_trial(trial):
    """Half as long, on half as many problems."""
    return replace(trial, steps=6, warmup=2, batch=4, eval_every=2, dev_problems=4, test_problems=4)


@pytest.fixture(scope="module")
def undisturbed(short_trial, tmp_path_factory, models):
    """How it ended when nothing happened to it, and what it left: nobody writes there."""
    return run_trial(short_trial, tmp_path_factory.mktemp("undisturbed"), models)


def run_trial(trial, root, models, **how):
    return local_runs.run_trial(trial, Results(root), models, **how)


def numbers(run) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    timed = ["tokens_per_second", "mfu", "seconds"]
    result = {key: value for key, value in run.result().items() if not key.endswith("seconds")}
    evals = run.evals().drop(columns=["seconds"]).sort_values(["step", "split", "arm", "reading"], ignore_index=True)
    return run.metrics().drop(columns=timed), evals, result


def test_a_trial_ends_with_everything_on_disk(short_trial, undisturbed):
    outcome, run = undisturbed
    assert outcome == "complete"
    metrics, evals, result = numbers(run)
    assert metrics["step"].tolist() == [1, 4]
    assert set(evals["arm"]) == {"bridged", "shuffled", "bridged_with_text", "shuffled_with_text"}
    assert evals.query("split == 'dev' and arm == 'bridged'")["step"].unique().tolist() == short_trial.points == [2, 4, 6]
    assert result["steps"] == 6
    assert result["stopped"] == "finished"
    assert run.checkpoints() == sorted({result["best_step"], 6})
    for step in run.checkpoints():
        assert not (run.checkpoint_path(step) / checkpoint.OPTIMIZER).exists()  # nothing goes on from a finished trial
    assert result["test"].keys() == {"bridged", "shuffled", "bridged_with_text", "shuffled_with_text"}
    for term in ("answer", "reconstruction", "info_nce"):
        assert metrics[f"gradient/{term}"].dropna().gt(0).all()


def test_what_the_best_soft_tokens_look_like_is_written_with_the_result(short_trial, undisturbed, models):
    trial, (_, run) = short_trial, undisturbed
    rows = pd.read_parquet(run.path / "samples" / "pocket" / "conditioning.parquet")
    assert set(rows["n"]) == {min(LOOKED_AT, trial.dev_problems)}
    nearest = rows[rows["kind"] == "nearest"]
    assert nearest["index"].tolist() == list(range(trial.translator.soft_tokens))
    attention = rows[rows["kind"] == "attention"]["value"].to_numpy().reshape(trial.translator.soft_tokens, -1)
    assert attention.sum(1) == pytest.approx(1)
    # By hand: the best checkpoint's soft tokens of the same problems, each against the nearest embedding.
    target, source = models.load(trial.target), models.load(trial.source)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms).eval()
    module.load_state_dict(read_weights(run.checkpoint_path(run.result()["best_step"])))
    around = frame(source, trial.evaluator)
    asked = [around.question(problem.question) for problem in problems_of(trial, "dev")[:LOOKED_AT]]
    with torch.no_grad():
        soft = module(*source.hidden_states(around.before, asked, trial.translator.layers))
    embeddings = target.model.get_input_embeddings().weight
    cosines = torch.nn.functional.cosine_similarity(soft[:, :, None], embeddings[None, None], dim=-1).amax(-1).mean(0)
    assert nearest["value"].tolist() == pytest.approx(cosines.tolist(), abs=1e-5)


def test_interrupted_anywhere_and_resumed_equals_undisturbed(short_trial, undisturbed, tmp_path, models):
    trial, (_, straight) = short_trial, undisturbed
    for stop_after in (1, 2, 3, 6):
        calls = iter(range(1, 100))
        root = tmp_path / f"b{stop_after}"
        outcome, run = run_trial(trial, root, models, interrupted=lambda calls=calls, n=stop_after: next(calls) >= n)
        assert outcome == "interrupted"
        assert run.result() is None
        assert run.checkpoints()[-1] == stop_after
        outcome, run = run_trial(trial, root, models)
        assert outcome == "complete"
        for one, other in zip(numbers(straight)[:2], numbers(run)[:2], strict=True):
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        assert numbers(straight)[2] == numbers(run)[2]


def test_training_goes_on_while_a_checkpoint_is_written(trial, tmp_path, models, monkeypatch):
    """The first write waits for the sixth step, two behind its point, and an interruption for the write."""
    sixth, write, steps = threading.Event(), TrialRun.write_checkpoint, iter(range(1, 100))

    def late(run, step, files) -> None:
        assert sixth.wait(60)
        write(run, step, files)

    def interrupted() -> bool:
        number = next(steps)
        if number == 6:
            sixth.set()
        return number == 6

    monkeypatch.setattr(TrialRun, "write_checkpoint", late)
    outcome, run = run_trial(trial, tmp_path, models, interrupted=interrupted)
    assert outcome == "interrupted"
    assert run.checkpoints() == [4, 6]


class KilledError(Exception):
    """Stands for SIGKILL."""


@dataclass
class Fragile:
    """Evaluations that die at a given collect, as a killed process would leave things."""

    inner: Evaluations
    collects: int

    def submit(self, **asked) -> None:
        self.inner.submit(**asked)

    def look(self, weights) -> pd.DataFrame:
        return self.inner.look(weights)

    def collect(self, **asked) -> pd.DataFrame:
        self.collects -= 1
        if self.collects == 0:
            raise KilledError
        return self.inner.collect(**asked)


def test_killed_while_waiting_for_any_evaluation_and_resumed_equals_undisturbed(short_trial, undisturbed, tmp_path, models):
    trial, (_, straight) = short_trial, undisturbed
    for dies_at in (1, 2, 3, 4):
        evaluations = Fragile(Evaluations(trial, Local(models)), dies_at)
        with pytest.raises(KilledError):
            run_trial(trial, tmp_path / f"k{dies_at}", models, evaluations=evaluations)
        run = Results(tmp_path / f"k{dies_at}").find(trial.fingerprint)
        assert (run.trained() is not None) == (dies_at > 2)
        _, run = run_trial(trial, tmp_path / f"k{dies_at}", models)
        assert numbers(straight)[2] == numbers(run)[2]
        pd.testing.assert_frame_equal(numbers(straight)[1], numbers(run)[1], check_exact=True)


def test_a_decision_reads_exactly_the_evaluations_before_its_point(short_trial, tmp_path, models):
    """Patience 1, weights that never change, so step 2 stays the best: step 4 knows only step 2, step 6 knows 4 and stops."""
    longer = replace(short_trial, steps=10, learning_rate=1e-20, stopping=Stopping(patience=1, degradation=None))
    _, run = run_trial(longer, tmp_path, models)
    result = run.result()
    assert result["stopped"] == "patience"
    assert result["steps"] == 6
    assert result["best_step"] == 2
    assert run.evals().query("split == 'dev'")["step"].unique().tolist() == [2, 4, 6]


def test_the_trap_everything_trained_in_eval_mode(trial, source, target):
    trainer = build_trainer(trial, source=source, target=target, world=World())
    trainer.step(0, measure=True, interrupt=False)
    assert trainer.module.training
    assert not source.model.training
    assert not target.model.training


def test_a_measured_step_and_a_plain_one_are_the_same_step(trial, source, target):
    weights = []
    for measure in (True, False):
        trainer = build_trainer(trial, source=source, target=target, world=World())
        fit(trainer.module, trainer.batches, problems=FITTED_FROM)
        for step in range(5):
            trainer.step(step, measure=measure, interrupt=False)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.parameters]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)


def test_the_anchor_starts_nearer_to_the_question_than_chance(trial, source, target):
    long = replace(trial, translator=replace(trial.translator, soft_tokens=48), losses=(Reconstruction(),))
    values = []
    for fitted in (False, True):
        trainer = build_trainer(long, source=source, target=target, world=World())
        if fitted:
            fit(trainer.module, trainer.batches)
        values.append(trainer.step(0, measure=True, interrupt=False).loss)
    assert values[1] < values[0] - 0.5


@dataclass(frozen=True, kw_only=True)
class Idle(Loss):
    """A loss of detached soft tokens: it has a value and trains nothing."""

    name: ClassVar[str] = "idle"
    weight: float = 1.0

    def count(self, batch) -> int:
        return 1

    def total(self, bridge):
        return bridge.soft_BKD.detach().sum() + 0 * bridge.soft_BKD.sum()


def test_a_term_that_moves_nothing_ends_the_trial_by_name(trial, tmp_path, models):
    idle = replace(trial, losses=(AnswerNLL(), Idle()))
    trainer = build_trainer(idle, source=models.load(trial.source), target=models.load(trial.target), world=World())
    trainer.step(0, measure=False, interrupt=False)
    trainer.step(1, measure=False, interrupt=False)
    with pytest.raises(ValueError, match=r"loss term 'idle' is on .* without gradient after 3 active steps"):
        trainer.step(2, measure=False, interrupt=False)


def test_a_loss_that_is_no_number_ends_the_trial_with_its_step_and_term():
    with pytest.raises(ValueError, match="loss term 'answer' is nan at step 7"):
        check_finite([InfoNCE(), AnswerNLL()], [1.0, float("nan")], 6)


def test_a_batch_that_workers_cannot_share_is_refused(trial, source, target):
    with pytest.raises(ValueError, match="batch 8 cannot be shared evenly by 3 workers"):
        build_trainer(trial, source=source, target=target, world=World(size=3))


def test_learning_rate_rises_over_warm_up_and_falls_to_zero():
    shares = [learning_rate_share(step, warmup=4, steps=10) for step in range(10)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4] == 1.0
    assert shares == sorted(shares[:4]) + sorted(shares[4:], reverse=True)
    assert 0 < shares[-1] <= 0.2


def trained(world: World, trial) -> tuple[list[list[float]], bool]:
    """What six steps came to, and whether the last one was told of rank 0's interruption."""
    source, target = (lm.load(name, device="cpu") for name in (trial.source, trial.target))
    trainer = build_trainer(trial, source=source, target=target, world=world)
    fit(trainer.module, trainer.batches, problems=FITTED_FROM)
    rows = []
    for step in range(6):
        done = trainer.step(step, measure=step % 2 == 0, interrupt=world.rank == 0 and step == 5)
        rows.append([done.loss, done.gradient_norm, *(term.value for term in done.terms)])
    return rows, done.interrupted


def test_two_workers_train_as_one(trial):
    one, _ = trained(World(), trial)
    for rows, told in on_two_workers(trained, trial):
        assert told
        for row, wanted in zip(rows, one, strict=True):
            assert row == pytest.approx(wanted, rel=1e-4)
