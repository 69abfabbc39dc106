"""Hybrid conditioning: the answer after a question that stays as text, with soft tokens added onto it."""

from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch
from bridges import bridge_of, naive_nll, soft_of

from raybridge.losses.bridge import Bridge
from raybridge.losses.next_token import AnswerNLL, ResidualAnswer
from raybridge.translators.injection import Injection
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.residual import Residual


def test_residual_answer_equals_the_naive_formula_and_needs_its_translator(batches, target):
    torch.manual_seed(0)
    soft = torch.randn(3, 50, target.width)  # one for every token of a question, and some that stand for none
    module = Residual(translator=PromptTuning(soft_tokens=5), scale=0.5).build(1, target.width, target_rms=1.0)
    bridge = replace(bridge_of(batches, target, batches.problems[:3], soft), module=module)
    naive = 0.0
    for i, (question, row) in enumerate(zip(bridge.batch.target_questions, bridge.batch.answers, strict=True)):
        embeds = target.embed(torch.tensor(question))
        naive += naive_nll(target, embeds + 0.5 * soft[i, : len(question)], bridge.before, bridge.after, row)
    assert ResidualAnswer().total(bridge).item() == pytest.approx(naive, rel=1e-4)
    assert naive > 1
    with pytest.raises(
        ValueError, match="loss residual_answer needs the translator Residual or Injection, not PromptTuningModule"
    ):
        ResidualAnswer().total(replace(bridge, module=bridge.module.core))


def injected_bridge(batches, target, soft, *, gate: float) -> Bridge:
    torch.manual_seed(1)
    config = Injection(translator=PromptTuning(soft_tokens=5), target_layers=(3, 1), rank=4)
    module = config.build(1, target.width, target_rms=1.0)
    for adapter in module.adapters:
        adapter.gate.data.fill_(gate)
    return replace(bridge_of(batches, target, batches.problems[: len(soft)], soft), module=module)


def test_residual_answer_by_injection_equals_the_naive_formula(batches, target):
    torch.manual_seed(0)
    soft = torch.randn(3, 50, target.width)  # one for every token of a question, and some that stand for none
    bridge = injected_bridge(batches, target, soft, gate=0.8)
    wrong = bridge.batch.answers[1:] + bridge.batch.answers[:1]  # those that the text does not make near certain
    bridge = replace(bridge, batch=replace(bridge.batch, answers=wrong))
    total, naive, text = ResidualAnswer().total(bridge).item(), 0.0, 0.0
    layers = target.model.base_model.layers
    for i, (question, row) in enumerate(zip(bridge.batch.target_questions, bridge.batch.answers, strict=True)):
        first, embeds = len(bridge.before), target.embed(torch.tensor(question))
        text += naive_nll(target, embeds, bridge.before, bridge.after, row)
        with ExitStack() as patches:
            for number, adapter in zip(bridge.module.target_layers, bridge.module.adapters, strict=True):
                addend = adapter(soft[i, : len(question)])

                def changed(x, *args, forward=layers[number].forward, addend=addend, first=first, **kwargs):
                    x = x.clone()
                    part = x[0, first : first + len(addend)]
                    x[0, first : first + len(addend)] = part + part.pow(2).mean(-1, keepdim=True).sqrt() * addend
                    return forward(x, *args, **kwargs)

                patches.enter_context(mock.patch.object(layers[number], "forward", changed))
            naive += naive_nll(target, embeds, bridge.before, bridge.after, row)
    assert total == pytest.approx(naive, rel=1e-4)
    assert naive > 1
    assert abs(naive - text) > 1e-2 * text


def test_an_injection_trains_its_gates_first_and_then_the_translator(batches, target):
    soft = soft_of(target, 3)
    bridge = injected_bridge(batches, target, soft, gate=0.0)
    ResidualAnswer().total(bridge).backward()
    assert all(adapter.gate.grad.abs().sum() > 0 for adapter in bridge.module.adapters)
    assert not soft.grad.any()
    ResidualAnswer().total(injected_bridge(batches, target, soft, gate=0.1)).backward()
    assert soft.grad.norm(dim=-1).min() > 0


def test_an_injection_leaves_the_frozen_model_as_it_was(batches, target):
    soft = soft_of(target, 3)
    before = AnswerNLL().total(bridge_of(batches, target, batches.problems[:3], soft)).item()
    ResidualAnswer().total(injected_bridge(batches, target, soft, gate=0.8))
    assert not any(layer._forward_pre_hooks for layer in target.model.base_model.layers)
    assert AnswerNLL().total(bridge_of(batches, target, batches.problems[:3], soft)).item() == before


def test_an_injection_into_a_layer_that_is_not_there_is_refused(target):
    with pytest.raises(ValueError, match=r"no layer that reads hidden state 4; valid are 0\.\.3"), target.injecting({4: None}):
        pass
    assert not any(layer._forward_pre_hooks for layer in target.model.base_model.layers)
