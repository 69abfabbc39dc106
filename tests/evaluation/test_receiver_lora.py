"""The target adapted: low-rank updates that its translator owns, read by its own arms and by no other."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from asking import requests_of, with_arms

from raybridge.arms import find
from raybridge.config import rebuild
from raybridge.evaluation.answering import answer
from raybridge.losses.beside_text import AnswerBesideText
from raybridge.models.decode import greedy
from raybridge.models.prompts import frame
from raybridge.scales import POCKET
from raybridge.training.step import build_trainer
from raybridge.translators.format_only import FormatOnly
from raybridge.translators.receiver_lora import ReceiverLoRA
from raybridge.translators.weights import copy_of
from raybridge.world import World
from sweeps import receiver_lora


@pytest.fixture
def adapted(trial):
    """A trial of a LoRA."""
    lora = ReceiverLoRA(soft_tokens=3, layers=(0, 2), target=trial.target, rank=4)
    return replace(trial, translator=lora, losses=(AnswerBesideText(),))


@pytest.fixture
def open_weights(adapted, models):
    """Its weights with updates that change what the target writes."""
    target = models.load(adapted.target)
    torch.manual_seed(0)
    module = adapted.translator.build(1, target.width, target_rms=target.embedding_rms)
    for update in module.updates:
        torch.nn.init.normal_(update.up, std=0.3)
    return copy_of(module)


@pytest.fixture
def request_(adapted):
    (request,) = requests_of(adapted, "dev", "bridged_with_text")
    return request.only(range(4))


def merged(target, weights, config):
    """The target by hand: each map's weight with its update added."""
    model = deepcopy(target.model)
    maps = [name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1] in config.parts]
    for number, name in enumerate(maps):
        down, up = (weights[f"updates.{number}.{part}"] for part in ("down", "up"))
        model.get_submodule(name).weight.data += config.alpha / config.rank * up @ down
    return model


def test_answers_are_those_of_a_target_whose_weights_have_the_updates_added(adapted, models, open_weights, request_):
    target, config = models.load(adapted.target), adapted.translator
    model = merged(target, open_weights, config)
    rows = answer(request_, models, open_weights)
    plain = answer(with_arms(request_, "target"), models)
    assert [row["completion"] for row in rows] != [row["completion"] for row in plain]
    around = frame(target, adapted.evaluator)
    soft = open_weights["soft_KD"]
    soft = soft / soft.square().mean(-1, keepdim=True).sqrt() * target.embedding_rms
    for row, problem in zip(rows, request_.problems, strict=True):
        (text,) = around.behind([problem.question])
        said = around.answer(problem.rationale)
        ids = torch.tensor([*text.question, *text.after, *said])
        embeds = torch.cat([target.embed(torch.tensor(around.before)), soft, target.embed(ids)])
        with torch.no_grad():
            logits = model(inputs_embeds=embeds[None]).logits[0, -len(said) - 1 : -1]
        assert row["nll"] == pytest.approx(
            torch.nn.functional.cross_entropy(logits, torch.tensor(said)).item() * len(said), rel=1e-3
        )


def test_the_target_itself_and_its_frozen_arms_stay_as_they_are(adapted, models, open_weights, request_):
    target = models.load(adapted.target)
    before = {name: one.clone() for name, one in target.model.state_dict().items()}
    plain = answer(with_arms(request_, "target", "zero"), models)
    answer(request_, models, open_weights)
    together = answer(with_arms(request_, "bridged_with_text", "zero", "target"), models, open_weights)
    for name in ("target", "zero"):
        for one, other in zip(*([row for row in rows if row["arm"] == name] for rows in (plain, together)), strict=True):
            assert {key: value for key, value in one.items() if key != "seconds"} == {
                key: value for key, value in other.items() if key != "seconds"
            }
    assert all(torch.equal(before[name], one) for name, one in target.model.state_dict().items())
    assert not any(p.requires_grad for p in target.model.parameters())


def test_updates_that_are_not_trained_yet_leave_format_alone(adapted, models, request_):
    target, config = models.load(adapted.target), adapted.translator
    torch.manual_seed(0)
    weights = copy_of(config.build(1, target.width, target_rms=target.embedding_rms))
    rows = answer(request_, models, weights)
    frozen = with_arms(request_, "bridged_with_text", translator=FormatOnly(soft_tokens=3, layers=(0, 2)))
    others = answer(frozen, models, {"soft_KD": weights["soft_KD"]})
    assert [row["nll"] for row in rows] == pytest.approx([row["nll"] for row in others], rel=1e-5)
    assert [row["completion"] for row in rows] == [row["completion"] for row in others]


def test_it_is_trained_as_it_is_judged_and_every_weight_learns(adapted, models):
    source, target = models.load(adapted.source), models.load(adapted.target)
    trainer = build_trainer(adapted, source=source, target=target, world=World())
    started = copy_of(trainer.module)
    for number in range(3):
        trainer.step(number, measure=True, interrupt=False)
    weights = copy_of(trainer.module)
    assert all(not torch.equal(started[name], weights[name]) for name in weights)
    (request,) = requests_of(adapted, "dev", "bridged_with_text")
    rows = answer(request, models, weights)
    with torch.no_grad():
        batch = trainer.batches.tokens(request.problems)
        total = AnswerBesideText().total(trainer.bridge(batch, 0, adapted.losses)).item()
    assert sum(row["nll"] for row in rows) == pytest.approx(total, rel=1e-4)


def test_rows_do_not_depend_on_the_batch(adapted, models, open_weights, request_):
    whole = {row["problem"]: row for row in answer(request_, models, open_weights)}
    for number in range(len(request_.problems)):
        (row,) = answer(request_.only([number]), models, open_weights)
        assert row["completion"] == whole[row["problem"]]["completion"]
        assert row["nll"] == pytest.approx(whole[row["problem"]]["nll"], rel=1e-4)


def test_other_weights_are_read_by_the_same_module(adapted, models, open_weights, request_):
    """The trap: what was built for one checkpoint answers for the next."""
    first = [row["nll"] for row in answer(request_, models, open_weights)]
    closed = {name: torch.zeros_like(one) if name.endswith("up") else one for name, one in open_weights.items()}
    second = [row["nll"] for row in answer(request_, models, closed)]
    assert first != pytest.approx(second, rel=1e-3)
    assert [row["nll"] for row in answer(request_, models, dict(open_weights))] == pytest.approx(first, rel=1e-5)


def test_the_prompt_that_rows_share_is_read_with_the_updates_too(adapted, models, open_weights):
    module_target = models.load(adapted.target)
    module = adapted.translator.build(1, module_target.width, target_rms=1.0)
    module.load_state_dict(open_weights)
    lm = module.read_by(module_target)
    ids = module_target.tokenize("Question: Ivy had 12 maps and lost 4. How many maps are left?\nAnswer:")
    (split,) = greedy(lm, [lm.text_piece([ids[9:]])], max_new_tokens=12, shared=ids[:9])
    (whole,) = greedy(lm, [lm.text_piece([ids])], max_new_tokens=12)
    assert split == whole


def test_what_cannot_be_adapted_is_refused(adapted, models):
    config = adapted.translator
    with pytest.raises(ValueError, match=r"unknown linear map 'q_projj'.*did you mean 'q_proj'"):
        replace(config, parts=("q_projj",)).build(1, 160, target_rms=1.0)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        replace(config, rank=0)
    module = config.build(1, models.load(adapted.target).width, target_rms=1.0)
    with pytest.raises(ValueError, match="adapts 'pocket:target', and the target is 'pocket:source'"):
        module.read_by(models.load(adapted.source))


def test_it_is_an_arm_beside_the_frozen_target_of_the_same_prompt(adapted):
    assert rebuild(adapted.resolved()) == adapted
    assert find("receiver_lora").against == "format_only"
    (axes,) = [{name: values[0] for name, values in receiver_lora.axes["pocket"].items()}]
    asked = receiver_lora.trial(POCKET.trial, **axes)
    assert asked.translator.target == POCKET.trial.target
    assert asked.losses == (AnswerBesideText(),)
