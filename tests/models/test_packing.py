"""Packed rows: the same states, losses and gradients as padded batches."""

import pytest
import tiny_lms
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from raybridge.models import backbone, packing
from raybridge.models.lm import FrozenLM
from raybridge.models.packing import Packing, within_window
from raybridge.models.pieces import Piece
from raybridge.models.prompts import frame
from raybridge.models.shape import attends_only
from raybridge.scales import POCKET

TEXTS = ["Mia has 3 pens.", "Tom buys 12 red cups and 4 blue cups and loses 5.", "How many?"]


@pytest.fixture
def packs(monkeypatch):
    """Call it to let every pass pack."""

    def start() -> None:
        monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
        monkeypatch.setattr(FrozenLM, "packs", True)

    return start


@given(st.lists(st.integers(min_value=0, max_value=5), min_size=1, max_size=4).filter(any))
def test_what_is_packed_comes_back_in_its_place(lengths):
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    values = torch.randn(*mask.shape, 3)
    packed = Packing.of(lengths, 6, torch.device("cpu"))
    row = packed.pack(values)
    assert row.shape == (1, sum(lengths), 3)
    assert packed.positions_1N.tolist() == [[position for length in lengths for position in range(length)]]
    assert packed.bounds.diff().tolist() == lengths
    assert packed.longest == max(lengths)
    torch.testing.assert_close(packed.unpack(row), values * mask.unsqueeze(-1))


def test_packed_states_are_those_of_a_padded_batch(source, packs):
    around = frame(source, POCKET.trial.evaluator)
    rows = [around.question(text) for text in TEXTS]
    padded, mask = source.hidden_states(around.before, rows, (0, 1, source.depth))
    packs()
    packed, again = source.hidden_states(around.before, rows, (0, 1, source.depth))
    assert torch.equal(mask, again)
    torch.testing.assert_close(packed[mask], padded[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("injected", [False, True])
def test_packed_nll_and_gradient_are_those_of_a_padded_batch(target, packs, injected):
    torch.manual_seed(0)
    soft = (torch.randn(3, 4, target.width) * target.embedding_rms).requires_grad_()
    around = frame(target, POCKET.trial.evaluator)
    text = target.text_piece([around.question(text) for text in TEXTS])  # its pads lie within the sequences
    answers = [around.answer(TEXTS[1]), [], around.answer(TEXTS[0])]

    def nll() -> tuple[torch.Tensor, torch.Tensor]:
        place = target.soft_piece(soft)
        if injected:
            place = Piece(embeds_BTD=place.embeds_BTD, mask_BT=place.mask_BT, injected={1: 0.1 * soft})
        found = target.answer_nll([place, text, target.text_piece([around.after] * 3)], answers)
        return found, torch.autograd.grad(found.sum(), soft)[0]

    padded = nll()
    packs()
    for one, other in zip(nll(), padded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert padded[0][1].eq(0).all(), "an answer of no tokens costs nothing"


def test_the_model_attends_as_before_when_a_packed_pass_is_over(target, packs):
    usual = target.model.config._attn_implementation
    packs()
    target.answer_nll([target.text_piece([[1, 2]])], [[3]])
    assert target.model.config._attn_implementation == usual != packing.NAME


def test_models_on_cpu_are_padded(target):
    assert not target.packs


def test_the_trap_a_kernel_that_attends_elsewhere_is_found_out(target, monkeypatch, caplog):
    def forwards_too(q_NHE, k_NGE, v_NGE, bounds, longest, scale):
        parts = (x.transpose(0, 1) for x in (q_NHE, k_NGE, v_NGE))
        return F.scaled_dot_product_attention(*parts, scale=scale, enable_gqa=True).transpose(0, 1)

    monkeypatch.setattr(backbone, "can_pack", lambda model: True)
    monkeypatch.setattr(packing, "attend", forwards_too)
    assert not FrozenLM(target.name, target.model, target.tokenizer).packs
    assert "packed passes give other states than padded ones" in caplog.text
    monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
    assert FrozenLM(target.name, target.model, target.tokenizer).packs


@pytest.mark.parametrize(("name", "packable"), [("llama", True), ("gemma2", False), ("gpt_oss", False), ("deepseek_v3", False)])
def test_attention_that_packed_rows_do_not_have_is_padded(monkeypatch, name, packable):
    """Bounded scores, sinks, and values of another size than keys."""
    monkeypatch.setattr(backbone, "can_pack", lambda model: True)
    monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
    monkeypatch.setattr(backbone, "within_window", lambda model, rows: True)
    tiny = tiny_lms.tiny(name)
    assert FrozenLM(name, tiny.model, tiny.tokenizer).packs == packable


@pytest.mark.parametrize(("name", "attends"), [("llama", True), ("gemma4", True), ("lfm2", False), ("falcon_h1", False)])
def test_a_recurrence_is_no_attention(name, attends):
    assert attends_only(tiny_lms.config(name)) == attends


def test_a_sequence_longer_than_a_sliding_window_is_padded(target, monkeypatch):
    rows = Packing.of([7, 7], 7, torch.device("cpu"))
    assert within_window(target.model, rows.longest)
    monkeypatch.setattr(target.model.config, "sliding_window", rows.longest, raising=False)
    assert within_window(target.model, rows.longest)
    monkeypatch.setattr(target.model.config, "sliding_window", rows.longest - 1)
    assert not within_window(target.model, rows.longest)


def test_packed_states_of_a_model_with_sliding_layers_are_those_of_a_padded_batch(target, packs):
    config = Gemma3TextConfig(
        vocab_size=target.model.config.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=128,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    )
    torch.manual_seed(0)
    gemma = FrozenLM("tiny", AutoModelForCausalLM.from_config(config), target.tokenizer)
    rows = [[*range(5, 45)], [*range(9, 20)]]
    padded, mask = gemma.hidden_states([1, 2], rows, (0, 2, 4))
    packs()
    packed, _ = gemma.hidden_states([1, 2], rows, (0, 2, 4))
    torch.testing.assert_close(packed[mask], padded[mask], rtol=1e-4, atol=1e-4)
