"""One latent for two targets, and a source that reads bytes."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from local_runs import run_trial
from quick import quick_start, short_answers

from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.losses.other_target import OtherTarget
from raybridge.models import lm, names
from raybridge.models.prompts import frame
from raybridge.results import Results
from raybridge.training.step import build_trainer
from raybridge.translators.interlingua import Interlingua, turned_to
from raybridge.translators.linear import Linear
from raybridge.translators.options import LayerMix, Projected
from raybridge.translators.residual import Residual
from raybridge.world import World

TWO = Interlingua(soft_tokens=6, layers=(0, 2), latent_width=24, width=32, depth=1, heads=2, also=("pocket:source",))
OTHER = OtherTarget(target="pocket:source")


@pytest.mark.parametrize("translator", [TWO, Projected(translator=TWO)], ids=lambda config: type(config).__name__)
def test_a_step_serves_two_targets_from_one_latent(trial, source, target, translator):
    both = replace(trial, translator=translator, losses=(AnswerNLL(), OTHER))
    trainer = build_trainer(both, source=source, target=target, world=World())
    batch = trainer.batches.tokens(trainer.batches.problems[:3])
    bridge = trainer.bridge(batch, 0, trainer.trial.losses)
    other = bridge.others["pocket:source"]
    assert other.target.name == source.name
    assert other.soft_BKD.shape == (3, 6, source.width)
    rms = other.soft_BKD.pow(2).mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full((3, 6), source.embedding_rms), rtol=1e-4, atol=1e-5)
    frame_ = frame(source, trial.evaluator)
    assert other.batch.answers[0] == frame_.answer(trainer.batches.problems[0].rationale)
    assert OTHER.count(batch) == sum(len(row) for row in other.batch.answers)
    OTHER.total(bridge).backward()
    module = trainer.module.core
    assert module.adapter.out.weight.grad is None
    assert module.others[0].out.weight.grad.abs().sum() > 0
    assert module.queries_MW.grad.abs().sum() > 0


def test_the_other_targets_loss_is_the_same_loss_on_that_target(trial, source, target):
    both = replace(trial, translator=TWO, losses=(AnswerNLL(), replace(OTHER, loss=Reconstruction())))
    trainer = build_trainer(both, source=source, target=target, world=World())
    bridge = trainer.bridge(trainer.batches.tokens(trainer.batches.problems[:3]), 0, trainer.trial.losses)
    assert both.losses[1].total(bridge).item() == Reconstruction().total(bridge.others["pocket:source"]).item()
    part = bridge.only([1, 2])
    assert part.others["pocket:source"].batch.answers == list(bridge.others["pocket:source"].batch.answers[1:])


@pytest.mark.parametrize(
    ("translator", "losses"),
    [
        (TWO, (AnswerNLL(),)),
        (replace(TWO, also=()), (AnswerNLL(), OTHER)),
        (Linear(soft_tokens=4, layers=(0,)), (AnswerNLL(), OTHER)),
    ],
)
def test_an_adapter_without_a_loss_and_a_loss_without_an_adapter_are_refused(trial, source, target, translator, losses):
    with pytest.raises(ValueError, match=r"each needs the other"):
        build_trainer(replace(trial, translator=translator, losses=losses), source=source, target=target, world=World())


@pytest.mark.parametrize(
    "wrap", [lambda inner: inner, lambda inner: Projected(translator=LayerMix(translator=inner, layers=(0, 2)))]
)
def test_turned_to_its_other_target_it_writes_what_it_writes_for_it(source, target, wrap):
    torch.manual_seed(0)
    config = wrap(TWO)
    module = config.build(source.width, target.width, target_rms=target.embedding_rms).eval()
    turned, weights = turned_to("pocket:source", config, module.state_dict(), own="pocket:target")
    again = turned.build(source.width, source.width, target_rms=source.embedding_rms).eval()
    again.load_state_dict(weights)
    states, mask = torch.randn(3, 7, len(config.layers), source.width), torch.ones(3, 7).bool()
    wanted = module.for_target("pocket:source", states, mask, rms=source.embedding_rms)
    assert torch.equal(again(states, mask), wanted)
    back, _ = turned_to("pocket:target", turned, weights, own="pocket:source")
    assert back == config


@pytest.mark.parametrize("translator", [TWO, Linear(soft_tokens=4, layers=(0,)), Residual(translator=TWO)])
def test_a_target_that_no_adapter_writes_for_is_refused(translator):
    name = "pocket:source" if translator is not TWO else "pocket:sauce"
    with pytest.raises(ValueError, match="unknown other target of this translator"):
        turned_to(name, translator, {}, own="pocket:target")


def test_width_is_known_without_loading(source, target):
    assert names.width_of("pocket:source") == source.width
    assert names.width_of("pocket:target") == target.width


def test_bytes_are_read_one_state_a_byte_and_keep_their_value(trial):
    reader = lm.load("bytes", device="cpu")
    text = "Zoë has 3 €."
    ids = reader.tokenize(text)
    assert len(ids) == len(text.encode())
    assert reader.text(ids) == text
    around = frame(reader, trial.evaluator)
    states, mask = reader.hidden_states(around.before, [ids, ids[:4]], (0,))
    assert states.shape == (2, len(ids), 1, reader.width)
    assert torch.equal(states[0, :, 0].argmax(-1), torch.tensor(ids))
    assert mask.sum(1).tolist() == [len(ids), 4]
    first, second = (row[-1] for row in around.question_ends(["ab", "é"]))
    assert (first, second) == (2, 1)  # characters
    names.check("bytes")


def test_a_trial_trains_from_bytes(trial, target):
    both = replace(trial, source="bytes", translator=replace(TWO, layers=(0,)), losses=(AnswerNLL(), OTHER), learning_rate=1e-3)
    trainer = build_trainer(both, source=lm.load("bytes", device="cpu"), target=target, world=World())
    losses = [trainer.step(step, measure=False, interrupt=False) for step in range(4)]
    assert losses[-1].loss < losses[0].loss
    assert [term.loss.name for term in losses[0].terms] == ["answer", "other_target"]


def test_a_trial_that_reads_bytes_for_two_targets_is_trained_judged_and_looked_into(trial, tmp_path, models):
    reads_bytes = replace(trial, source="bytes", translator=replace(TWO, layers=(0,)), losses=(AnswerNLL(), OTHER))
    with quick_start(), short_answers():
        outcome, run = run_trial(reads_bytes, Results(tmp_path), models)
    assert outcome == "complete"
    assert set(run.evals()["arm"]) == {"bridged", "shuffled", "bridged_with_text", "shuffled_with_text"}
    assert {"attention", "nearest"} <= set(pd.read_parquet(run.path / "samples/pocket/conditioning.parquet")["kind"])


def test_bytes_are_no_target_of_an_interlingua():
    with pytest.raises(ValueError, match="'bytes' is a source, which answers nothing"):
        replace(TWO, also=("bytes",))
