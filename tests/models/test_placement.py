"""A model over several devices: which part lies where, and that it computes what it computes on one.

A second device is pretended (`elsewhere`): what is not brought to it is an error there, as it is on a GPU.
"""

from __future__ import annotations

from functools import partial

import pytest
import tiny_lms
import torch
from elsewhere import ELSEWHERE, Elsewhere, There, sent
from full_scale import LLAMA_70B
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.weak import WeakTensorKeyDictionary

from raybridge.models import files, names
from raybridge.models import lm as lms
from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.low_rank import Update, with_updates
from raybridge.models.memory import module_bytes, shape_bytes
from raybridge.models.placement import cross, device_map, moved, spread, unhook

HOME = torch.device("cpu")
SHARED, ROWS = [1, 2, 3], [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]
NAMES = ["llama", "mistral, window"]


def split(name: str, *, first: int = 1, crosses: bool = True) -> FrozenLM:
    """A tiny model whose layers behind the first ones lie elsewhere."""
    lm = FrozenLM(name, tiny_lms.made(tiny_lms.config(name)), tiny_lms.tokenizer())
    for layer in lm.layers[first:]:
        sent(layer)
    if crosses:
        cross(lm.layers, [next(layer.parameters()).device for layer in lm.layers], home=HOME)
    return lm


def soft(lm: FrozenLM) -> torch.Tensor:
    return torch.randn(len(ROWS), 4, lm.width, generator=torch.Generator().manual_seed(1)).requires_grad_()


def trained(lm: FrozenLM) -> list[torch.Tensor]:
    """Likelihoods, and the gradient of soft tokens that stand before them and are added to a layer's input."""
    soft_BKD = soft(lm)
    piece = lm.soft_piece(soft_BKD)
    piece = type(piece)(embeds_BTD=piece.embeds_BTD, mask_BT=piece.mask_BT, injected={lm.depth - 1: soft_BKD})
    nll_BA = lm.answer_nll([lm.text_piece([SHARED] * len(ROWS)), piece], ROWS)
    (gradient_BKD,) = torch.autograd.grad(nll_BA.sum(), soft_BKD)
    return [nll_BA, gradient_BKD]


def decoded(lm: FrozenLM) -> list[str]:
    pieces = [lm.soft_piece(soft(lm).detach()), lm.text_piece(ROWS)]
    return [one.text for one in greedy(lm, pieces, max_new_tokens=3, shared=SHARED)]


@pytest.fixture(autouse=True)
def one_kernel():
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_losses_gradients_states_and_answers_are_those_of_one_device(name):
    one, two = tiny_lms.tiny(name), split(name)
    assert list(two.shares) == [HOME, ELSEWHERE]
    layers = [0, 1, one.depth - 1, one.depth]
    whole = [*trained(one), *one.states([1], ROWS, layers)]
    with one.recomputing():
        whole += trained(one)
    with Elsewhere():
        parts = [*trained(two), *two.states([1], ROWS, layers)]
        with two.recomputing():
            parts += trained(two)
        answers = decoded(two)
    for ours, theirs in zip(parts, whole, strict=True):
        assert type(ours) is torch.Tensor
        torch.testing.assert_close(ours, theirs)
    assert answers == decoded(one)


def test_without_what_brings_things_over_it_fails():
    with Elsewhere(), pytest.raises(RuntimeError, match="tensors of two devices"):
        trained(split("llama", crosses=False))


def test_no_layer_need_be_on_the_first_device():
    one, two = tiny_lms.tiny("llama"), split("llama", first=0)
    with Elsewhere():
        parts = trained(two)
    torch.testing.assert_close(parts, trained(one))


def test_what_is_learned_beside_its_maps_is_learned_at_home():
    one, two = tiny_lms.tiny("llama"), split("llama")
    path, maps = "model.layers.2.self_attn.q_proj", one.layers[2].self_attn.q_proj
    gradients = []
    for lm in (one, two):
        torch.manual_seed(0)
        update = Update(maps.in_features, maps.out_features, rank=2, alpha=4.0)
        torch.nn.init.normal_(update.up)
        with Elsewhere():
            nll = with_updates(lm, {path: update}).answer_nll([lm.text_piece([SHARED] * len(ROWS))], ROWS)
            gradients.append(torch.autograd.grad(nll.sum(), [update.up, update.down]))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][0].norm() > 0


def test_what_all_layers_are_given_is_brought_over_once_until_it_changes():
    brought = WeakTensorKeyDictionary()
    with Elsewhere():
        mask, states = torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)
        given = ((mask, [states]), {"mask": mask, "cache": object(), "causal": True})
        (first, (grown,)), told = (moved(one, ELSEWHERE, brought) for one in given)
        assert isinstance(first, There)
        assert first is told["mask"]
        assert grown.requires_grad
        assert told["cache"] is given[1]["cache"]
        assert told["causal"] is True
        assert len(brought) == 1
        mask += 1
        assert moved(mask, ELSEWHERE, brought).here.sum() == 12


def fullest(ends: int, layers: list[int], counts: list[int]) -> int:
    held, start = [], 0
    for count in counts:
        held.append(sum(layers[start : start + count]))
        start += count
    return max(held[0] + ends, *held)


def every(count: int, cards: int) -> list[list[int]]:
    """All ways to lay so many layers on cards in their order."""
    if cards == 1:
        return [[count]]
    return [[first, *rest] for first in range(count + 1) for rest in every(count - first, cards - 1)]


@given(ends=st.integers(0, 50), layers=st.lists(st.integers(1, 20), max_size=7), cards=st.integers(1, 4))
def test_the_fullest_card_holds_as_little_as_can_be(ends, layers, cards):
    counts = spread(ends, layers, cards)
    assert len(counts) == cards
    assert sum(counts) == len(layers)
    assert fullest(ends, layers, counts) == min(fullest(ends, layers, other) for other in every(len(layers), cards))


def test_seventy_billion_lie_evenly_over_four_cards_with_embeddings_and_head_on_the_first():
    devices = [torch.device("cuda", number) for number in range(4)]
    parts = device_map(LLAMA_70B, devices, partial(module_bytes, bits=16))
    ends, layers = shape_bytes(LLAMA_70B)
    order = [parts[f"model.layers.{number}"].index for number in range(80)]
    assert order == sorted(order)
    assert [order.count(number) for number in range(4)] == spread(ends, layers, 4) == [17, 21, 21, 21]
    assert {parts[name] for name in ("model.embed_tokens", "model.norm", "lm_head", "model.rotary_emb")} == {devices[0]}


@pytest.mark.parametrize("name", tiny_lms.TARGETS)
def test_every_weight_of_every_architecture_has_a_place(name):
    model = tiny_lms.tiny(name).model
    parts = device_map(model.config, [HOME, ELSEWHERE], partial(module_bytes, bits=16))
    for weight, _ in (*model.named_parameters(), *model.named_buffers()):
        assert any(weight == part or weight.startswith(f"{part}.") for part in parts), weight


def test_a_model_that_is_read_in_parts_is_the_model(tmp_path, target):
    """Both parts on one device: what transformers and accelerate leave of theirs behind would show."""
    again = lms.load("pocket:target", device="cpu", beside=["cpu"])
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(again.model(input_ids=ids).logits, target.model(input_ids=ids).logits)
    assert not any(hasattr(module, "_hf_hook") or "forward" in vars(module) for module in again.model.modules())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs")
def test_two_gpus_compute_what_one_does():
    one, two = (lms.load("pocket:target", device="cuda:0", beside=beside) for beside in ([], ["cuda:1"]))
    assert len(two.shares) == 2
    rows = [one.tokenize(text) for text in ("one and two", "seven")]
    nll = [lm.answer_nll([lm.text_piece([[1, 2]] * 2)], rows) for lm in (one, two)]
    torch.testing.assert_close(*nll, rtol=1e-2, atol=1e-2)


def test_a_model_that_is_read_straight_to_a_device_is_as_one_that_is_brought_there():
    where = names.place("pocket:target")
    (_, brought), (_, straight) = (
        files.read("pocket:target", where, dtype=torch.float32, parts=parts) for parts in (None, {"": torch.device("cpu")})
    )
    unhook(straight)
    assert not any(hasattr(module, "_hf_hook") or "forward" in vars(module) for module in straight.modules())
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(straight(input_ids=ids).logits, brought(input_ids=ids).logits)
