"""Options of any translator: layers, projection, what is added onto text."""

import math
from dataclasses import replace

import pytest
import torch
from built import RMS, S, build, states

from raybridge.models.pieces import Piece
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.injection import Injection
from raybridge.translators.linear import Linear
from raybridge.translators.options import LayerMix, Projected
from raybridge.translators.residual import Residual


def test_options_start_as_the_translator_alone():
    inner = Bottlenecked(soft_tokens=6, layers=(0, 2), width=32, depth=2, heads=4)
    for option in (LayerMix(translator=inner, layers=(0, 1, 2)), Projected(translator=inner)):
        x, mask = states(option)
        wrapped, plain = build(option), build(inner)
        plain.load_state_dict(wrapped.core.state_dict())
        read = [option.layers.index(layer) for layer in inner.layers]
        torch.testing.assert_close(wrapped(unit(x), mask), plain(unit(x)[:, :, read], mask), rtol=1e-5, atol=1e-5)


def unit(x):
    return x / x.pow(2).mean(-1, keepdim=True).sqrt()


def test_soft_tokens_of_an_option_are_those_of_its_translator():
    inner = Linear(soft_tokens=4, layers=(0,))
    option = Projected(translator=LayerMix(translator=inner, layers=(0, 1)))
    assert (option.soft_tokens, option.layers) == (4, (0, 1))
    assert replace(option, soft_tokens=9).translator.translator.soft_tokens == 9
    with pytest.raises(ValueError, match=r"must hold those that its translator starts from; \[0\] are missing"):
        LayerMix(translator=inner, layers=(1, 2))


def test_a_residual_is_added_to_the_tokens_that_soft_tokens_stand_for():
    torch.manual_seed(0)
    embeds, soft = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    module = Residual(translator=Linear(soft_tokens=3, layers=(0,)), scale=0.5).build(S, 8, target_rms=RMS)
    place = module.onto(Piece(embeds_BTD=embeds, mask_BT=mask), soft)
    expected = embeds.clone()
    for k, t in ((0, 0), (1, 2), (2, 4)):
        expected[0, t] += 0.5 * soft[0, k]
    expected[1, :2] += 0.5 * soft[1, :2]
    torch.testing.assert_close(place.embeds_BTD, expected)
    assert torch.equal(place.mask_BT, mask)


def test_an_injection_starts_closed_and_reaches_the_tokens_that_soft_tokens_stand_for():
    torch.manual_seed(0)
    soft = torch.randn(2, 3, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    question = Piece(embeds_BTD=torch.randn(2, 5, 8), mask_BT=mask)
    config = Injection(translator=Linear(soft_tokens=3, layers=(0,)), target_layers=(1, 3), rank=2)
    module = config.build(S, 8, target_rms=RMS)
    place = module.onto(question, soft)
    assert sorted(place.injected) == [1, 3]
    assert not any(addend.any() for addend in place.injected.values())
    module.adapters[1].gate.data.fill_(-0.7)
    place = module.onto(question, soft)
    assert place.embeds_BTD is question.embeds_BTD
    assert not place.injected[1].any()
    rms = place.injected[3].pow(2).mean(-1).sqrt()
    expected = torch.zeros(2, 5)
    expected[0, [0, 2, 4]] = expected[1, :2] = math.tanh(0.7)
    torch.testing.assert_close(rms, expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(place.injected[3][0, 2], module.adapters[1](soft[0, 1]))


@pytest.mark.parametrize(("layers", "rank"), [((), 4), ((1, 1), 4), ((-1,), 4), ((1,), 0)])
def test_an_injection_refuses_what_is_none(layers, rank):
    with pytest.raises(ValueError, match=r"translator Injection: (target_layers|rank) must"):
        Injection(translator=Linear(soft_tokens=3, layers=(0,)), target_layers=layers, rank=rank)


@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: Projected(translator=inner)])
def test_soft_tokens_stand_in_front_of_the_text_and_alone_without_one(target, wrap):
    module = wrap(Linear(soft_tokens=3, layers=(0,))).build(S, target.width, target_rms=RMS)
    soft, text = torch.randn(2, 3, target.width), target.text_piece([[5, 6, 7], [8]])
    (alone,) = module.place(target, None, soft)
    first, second = module.place(target, text, soft)
    assert torch.equal(alone.embeds_BTD, soft)
    assert torch.equal(first.embeds_BTD, soft)
    assert second is text
    assert not module.adds_onto_text


@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: Projected(translator=inner)])
def test_what_adds_onto_text_stands_in_its_place_and_alone_without_one(target, wrap):
    module = wrap(Residual(translator=Linear(soft_tokens=3, layers=(0,)))).build(S, target.width, target_rms=RMS)
    soft, text = torch.randn(2, 3, target.width), target.text_piece([[5, 6, 7], [8]])
    (alone,) = module.place(target, None, soft)
    (onto,) = module.place(target, text, soft)
    assert torch.equal(alone.embeds_BTD, soft)
    assert torch.equal(onto.embeds_BTD[0], text.embeds_BTD[0] + 0.1 * soft[0])
    assert torch.equal(onto.embeds_BTD[1, 0], text.embeds_BTD[1, 0] + 0.1 * soft[1, 0])
    assert torch.equal(onto.embeds_BTD[1, 1:], text.embeds_BTD[1, 1:])  # its pads
    assert module.adds_onto_text
