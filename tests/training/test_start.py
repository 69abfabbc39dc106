"""Before the first step, training and evaluation agree on what stands around a question and where its answer begins."""

from dataclasses import replace

import pytest
from asking import read_one_late

from raybridge.models.hardening import Hardening
from raybridge.models.prompts import frame
from raybridge.training.start import check_same, check_start
from raybridge.training.step import build_trainer
from raybridge.world import World


@pytest.fixture
def trainer(trial, source, target):
    return build_trainer(trial, source=source, target=target, world=World())


def test_alignment_at_the_first_answer_token_is_checked_when_training_starts(trainer, monkeypatch):
    check_start(trainer)
    read_one_late(monkeypatch)
    with pytest.raises(AssertionError, match="do not read the first answer token from the same position"):
        check_start(trainer)


def test_another_begin_token_or_anchor_than_evaluation_asks_with_is_refused(trainer, target):
    trained = trainer.batches.target
    asked = frame(target, trainer.trial.evaluator)
    check_same(trained, asked)
    with pytest.raises(ValueError, match="cue and anchor must be the same"):
        check_same(trained, asked.anchored(Hardening(anchor="So:").anchor))
    with pytest.raises(ValueError, match="a begin token must stand in both or in neither"):
        check_same(trained, replace(asked, before=(target.tokenizer.bos_token_id, *asked.before)))


def test_a_model_that_begins_every_turn_with_its_begin_token_trains_behind_exemplars_or_without(trainer, target):
    trained = trainer.batches.target
    begin = target.tokenizer.bos_token_id
    turns = replace(trained, before=(begin, 9, 9, begin, *trained.before[1:]))  # SmolLM2's is <|im_start|>
    check_same(replace(trained, before=(begin, *trained.before[1:])), turns)
