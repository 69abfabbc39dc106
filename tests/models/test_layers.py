"""What of a pass stays alive: the states that were asked for, and in a recomputed pass what enters the layers."""

import weakref
from functools import cache

import pytest
import tiny_lms
import torch
from tiny_configs import GROUPED
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig

from raybridge.models import layers, packing
from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece

DEPTH = 8
ROWS = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15]]


@cache
def deep() -> FrozenLM:
    config = LlamaConfig(**GROUPED | dict(num_hidden_layers=DEPTH))
    return FrozenLM("deep", tiny_lms.made(config), tiny_lms.tokenizer())


def alive_before_the_last_layer(lm, read):
    """Which hidden states still exist when the last layer begins."""
    states, alive = [], []

    def entered(_, args):
        states.append(weakref.ref(args[0]))
        if len(states) == lm.depth:
            alive.extend(number for number, state in enumerate(states) if state() is not None)

    hooks = [layer.register_forward_pre_hook(entered) for layer in lm.layers]
    read()
    for hook in hooks:
        hook.remove()
    return alive


def test_only_the_states_asked_for_live_on():
    lm, ids = deep(), torch.tensor([[5, 6, 7]])
    assert alive_before_the_last_layer(lm, lambda: lm.states([0], ROWS, (2, 5, DEPTH))) == [0, 2, 5, DEPTH - 1]
    with torch.no_grad():
        every = alive_before_the_last_layer(lm, lambda: lm.body(input_ids=ids, output_hidden_states=True))
    assert every == list(range(DEPTH)), "transformers keeps all of them"


def test_a_body_without_a_list_of_its_layers_is_refused():
    with pytest.raises(ValueError, match="Linear has no list of its 3 layers"):
        layers.layers_of(torch.nn.Linear(1, 1), 3)


@pytest.fixture(params=["padded", "packed"])
def lm(request, monkeypatch):
    if request.param == "packed":
        monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
        monkeypatch.setattr(FrozenLM, "packs", True)
    return deep()


@pytest.mark.parametrize("injected", [False, True])
def test_recomputed_passes_have_the_gradients_of_others_and_keep_less(lm, injected):
    soft = (torch.randn(2, 4, lm.width, generator=torch.Generator().manual_seed(0)) * lm.embedding_rms).requires_grad_()

    def nll():
        piece = Piece(embeds_BTD=soft, mask_BT=torch.ones(2, 4, dtype=torch.bool), injected={1: soft} if injected else {})
        return lm.answer_nll([piece, lm.text_piece([[3], [4, 5]])], ROWS)

    def kept(found):
        numbers = []
        with saved_tensors_hooks(lambda one: numbers.append(one.numel()) or one, lambda one: one):
            return found(), sum(numbers)

    plain, much = kept(nll)
    with lm.recomputing():
        again, little = kept(nll)
    assert little < much / 3
    torch.testing.assert_close(again, plain, rtol=1e-6, atol=1e-6)
    for row in range(2):  # several backward passes over one graph, as each term has its own
        one, other = (torch.autograd.grad(nll[row].sum(), soft, retain_graph=True)[0] for nll in (plain, again))
        assert one[row].abs().sum() > 0
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    assert all(type(layer).__name__ == "LlamaDecoderLayer" for layer in lm.layers)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("llama", {"mlp", "input_layernorm", "post_attention_layernorm"}),
        ("mixtral", {"input_layernorm", "post_attention_layernorm"}),
        ("gpt2", {"ln_1", "ln_2", "mlp"}),
    ],
)
def test_what_is_fused_sees_each_position_alone(name, parts):
    layer = tiny_lms.tiny(name).layers[0]
    assert {child for child, part in layer.named_children() if layers.positionwise(part)} == parts


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_parts_go_back_once_for_each_term(monkeypatch):
    """A step that measures does: buffers that the first term gives away would lack for the second."""
    by_inductor = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, **how: by_inductor(part, backend="aot_eager", **how))
    lm = FrozenLM("one", tiny_lms.made(LlamaConfig(**GROUPED)), tiny_lms.tokenizer())
    soft_BKD = torch.randn(2, 3, lm.width, requires_grad=True)
    with torch._functorch.config.patch(donated_buffer=True):
        lm.fuse()
        nll = lm.answer_nll([lm.soft_piece(soft_BKD)], ROWS)
        terms = [torch.autograd.grad(term, soft_BKD, retain_graph=True)[0] for term in (nll[0].sum(), nll[1].sum())]
        torch.testing.assert_close(sum(terms), torch.autograd.grad(nll.sum(), soft_BKD)[0])
