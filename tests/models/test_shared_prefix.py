"""Texts that go on from one beginning in a packed row: the losses and gradients of texts that stand behind their own."""

import by_formula
import pytest
import tiny_lms
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from raybridge.models import packed_prefix, packing
from raybridge.models.lm import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.models.shared_prefix import Row, cues_apart

ANSWERS = [[5, 6, 7, 8, 9], [11], [12, 13, 14]]
REPEATS = [[21, 22], [23, 24, 25, 26, 27, 28], [29]]
CUES = {"apart": ([3, 4], [8, 9, 10]), "alike at first": ([3, 4], [3, 9, 10]), "one within the other": ([3, 4], [3, 4, 10])}


@pytest.fixture
def flash(monkeypatch):
    """Every pass packs, and attends by formulas."""
    monkeypatch.setattr(packed_prefix, "flash", by_formula.forward)
    monkeypatch.setattr(packed_prefix, "backward", by_formula.backward)
    monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
    monkeypatch.setattr(FrozenLM, "packs", True)


@pytest.fixture
def lm() -> FrozenLM:
    """Of three layers and grouped heads."""
    shape = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3)
    return FrozenLM("grouped", tiny_lms.made(LlamaConfig(vocab_size=64, **shape)), tiny_lms.tokenizer())


def read(lm: FrozenLM, *, shared: bool, rows: int = 3, cues=CUES["apart"], answers=ANSWERS, injected: bool = False):
    """The NLL of each text, and the gradient of all of it."""
    drawn = torch.randn(3, 4, lm.width, generator=torch.Generator().manual_seed(0))[:rows]
    soft = (drawn * lm.embedding_rms).requires_grad_()
    place = lm.soft_piece(soft)
    if injected:
        place = Piece(embeds_BTD=place.embeds_BTD, mask_BT=place.mask_BT, injected={1: 0.1 * soft})
    pieces = [lm.text_piece([[1, 2], [1], [1, 2, 3]][:rows]), place]  # beginnings of unlike length
    texts = [(cues[0], answers[:rows]), (cues[1], REPEATS[:rows])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(lm), "shares_beginnings", shared)
        nll = nll_of(lm, pieces, texts)
    whole = sum(one.sum() for one in nll)
    apart = [torch.autograd.grad(one.sum(), soft, retain_graph=True)[0] for one in nll]
    return [*nll, *apart, *torch.autograd.grad(whole, soft)]


def nll_of(lm: FrozenLM, pieces, texts) -> list[torch.Tensor]:
    """The NLL of each text behind the same pieces."""
    found = zip(lm.texts_states(pieces, texts), texts, strict=True)
    return [lm.states_nll(hidden, ids, list(map(len, rows))) for (hidden, ids, _), (_, rows) in found]


def same(found, wanted) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def test_the_parts_of_a_softmax_joined_go_back_as_the_whole(flash):
    torch.manual_seed(0)
    H, G, E, fronts, lengths = 4, 2, 8, [3, 5], [[2, 4], [1, 0]]
    told = Row.of(fronts, lengths, torch.device("cpu")).arguments
    N, scale = 15, E**-0.5
    q, k, v = (torch.randn(N, heads, E, dtype=torch.float64, requires_grad=True) for heads in (H, G, G))
    out, _ = packed_prefix.attend(q, k, v, told["cu_seq_lens_q"], *told["beginnings"], 128, scale)
    up = torch.randn_like(out)
    found = torch.autograd.grad((out * up).sum(), [q, k, v])
    rows, starts = [], {0: None, 3: None, 8: 0, 10: 0, 14: 3}  # where each part begins, and the beginning that it goes on from
    for (start, front), end in zip(starts.items(), [3, 8, 10, 14, 15], strict=True):
        before = [] if front is None else [*range(front, front + fronts[front > 0])]
        every = [x[[*before, *range(start, end)]].repeat_interleave(H // G, 1) for x in (k, v)]
        sees = torch.cat([torch.ones(end - start, len(before)), torch.ones(end - start, end - start).tril()], dim=1).bool()
        scores = (torch.einsum("nhe,mhe->hnm", q[start:end], every[0]) * scale).masked_fill(~sees, -torch.inf)
        rows.append(torch.einsum("hnm,mhe->nhe", scores.softmax(-1), every[1]))
    whole = torch.cat(rows)
    torch.testing.assert_close(out, whole, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, torch.autograd.grad((whole * up).sum(), [q, k, v]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cues", CUES.values(), ids=CUES)
def test_where_nothing_is_shared_no_number_is_another_in_any_bit(lm, cues):
    """Answers and repetitions of one padded pass: what is padded otherwise rounds otherwise, and training amplifies it."""
    soft = (torch.randn(3, 4, lm.width, generator=torch.Generator().manual_seed(0)) * lm.embedding_rms).requires_grad_()
    apart = nll_of(lm, [lm.text_piece([[1, 2]] * 3), lm.soft_piece(soft)], [(cues[0], ANSWERS), (cues[1], REPEATS)])
    before = [lm.text_piece([[1, 2]] * 6), lm.soft_piece(torch.cat([soft, soft]))]
    cued = lm.text_piece([cues[0]] * 3 + [cues[1]] * 3, side="left")
    whole = lm.answer_nll([*before, cued], [*ANSWERS, *REPEATS])
    for part, rows in zip(apart, (whole[:3], whole[3:]), strict=True):
        assert torch.equal(part, rows[:, : part.shape[1]])
    one, other = (torch.autograd.grad(nll.sum(), soft)[0] for nll in (torch.cat([part.flatten() for part in apart]), whole))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cues", CUES)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("injected", [False, True])
def test_loss_and_gradient_are_those_of_two_sequences(lm, flash, cues, rows, injected):
    shared, apart = (read(lm, shared=how, rows=rows, cues=CUES[cues], injected=injected) for how in (True, False))
    same(shared, apart)
    assert all(one.abs().sum() > 0 for one in shared)


def test_a_text_that_is_not_there_costs_nothing(lm, flash):
    answers = [[5, 6], [], [7]]
    shared, apart = (read(lm, shared=how, answers=answers) for how in (True, False))
    same(shared, apart)
    assert not shared[2][1].any()


def test_they_are_the_same_in_recomputed_layers(lm, flash):
    wanted = read(lm, shared=False)
    with lm.recomputing():
        same(read(lm, shared=True), wanted)


def test_a_beginning_is_a_position_once(lm, flash, monkeypatch):
    passed, seen = FrozenLM.passed_row, []
    monkeypatch.setattr(
        FrozenLM, "passed_row", lambda self, row, told: seen.append(row.mask_BT.shape) or passed(self, row, told)
    )
    read(lm, shared=True, cues=CUES["alike at first"])
    beginnings = sum([2, 1, 3]) + 3 * (4 + 1)  # soft tokens, and what both cues begin with
    assert seen == [(1, beginnings + sum(1 + len(row) - 1 for row in ANSWERS) + sum(2 + len(row) - 1 for row in REPEATS))]


def test_what_a_target_shares_is_seen_before_it_is_relied_on(lm, flash, monkeypatch, caplog):
    assert lm.shares_beginnings

    def without(q, k, v, bounds, starts, forks, sizes, longest, scale):
        return tiny_lms.sequence_by_sequence(q, k, v, bounds, longest, scale), None

    monkeypatch.setattr(packed_prefix, "attend", without)
    assert not FrozenLM(lm.name, lm.model, lm.tokenizer).shares_beginnings
    assert "texts behind one beginning have other states than behind their own" in caplog.text


def test_what_does_not_pack_or_is_longer_than_a_window_has_beginnings_of_its_own(lm, flash, monkeypatch):
    wanted = read(lm, shared=False)
    monkeypatch.setattr(lm.model.config, "sliding_window", 8, raising=False)
    assert not lm.shares_beginnings
    monkeypatch.setattr(packed_prefix, "attend", None)
    same(read(lm, shared=True), wanted)
    monkeypatch.setattr(FrozenLM, "packs", False)
    assert not FrozenLM(lm.name, lm.model, lm.tokenizer).shares_beginnings


@given(
    st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(0, 4), min_size=2, max_size=2)), min_size=1, max_size=4).filter(
        lambda rows: any(any(lengths) for _, lengths in rows)
    )
)
def test_a_row_says_where_everything_stands(rows):
    fronts, lengths = zip(*rows, strict=True)
    row = Row.of(fronts, lengths, torch.device("cpu"))
    told = row.arguments
    starts, forks, sizes = told["beginnings"]
    parts = [*fronts, *(length for some in lengths for length in some)]
    assert told["cu_seq_lens_q"].diff().tolist() == [length for length in parts if length]
    assert starts.diff().tolist() == list(fronts)
    assert forks.diff().tolist() == [sum(some) for some in lengths]
    assert list(sizes) == [sum(fronts), max(sum(some) for some in lengths), max(fronts)]
    places = iter(told["position_ids"][0].tolist())
    for front in fronts:
        assert [next(places) for _ in range(front)] == list(range(front))
    for front, some in zip(fronts, lengths, strict=True):
        for length in some:
            assert [next(places) for _ in range(length)] == list(range(front, front + length))
    assert row.longest == max(front + max(some) for front, some in rows)


def test_what_cues_begin_with_alike_belongs_to_the_beginning():
    rows = [[1], [2]]
    assert cues_apart([([3, 4], rows), ([3, 5], rows)]) == ([3], [([4], rows), ([5], rows)])
    assert cues_apart([([3], rows), ([3, 5], rows)]) == ([3], [([], rows), ([5], rows)])
    assert cues_apart([([], rows), ([3], rows)]) == ([], [([], rows), ([3], rows)])
