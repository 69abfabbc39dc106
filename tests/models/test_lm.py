from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybridge.models import frozen, names, vocabulary
from raybridge.models import lm as lms
from raybridge.models.parts import by_length, that_fit
from raybridge.models.pieces import Piece, join, pad, positions
from raybridge.models.prompts import frame
from raybridge.scales import POCKET

TEXTS = ["Tom has 3 apples.", "A box holds 12 pens and Ann buys 4 boxes. How many pens?", "2"]


def test_pads_take_no_position_wherever_they_are():
    mask = torch.tensor([[0, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1]]).bool()
    assert positions(mask).tolist() == [[0, 0, 1, 1, 1, 2], [0, 1, 2, 3, 4, 5]]


def test_the_trap_pad_equal_to_eos_does_not_mask_the_end_token():
    ids, mask = pad([[5, 2], [7, 8, 9, 2]], pad_id=2, side="right", device=torch.device("cpu"))
    assert ids.tolist() == [[5, 2, 2, 2], [7, 8, 9, 2]]
    assert mask.tolist() == [[True, True, False, False], [True] * 4]


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=5), st.sampled_from(["left", "right"]))
def test_rows_are_padded_to_the_longest(rows, side):
    ids, mask = pad(rows, pad_id=7, side=side, device=torch.device("cpu"))
    longest = max(map(len, rows), default=0)
    gaps = [longest - len(row) for row in rows]
    parts = [([7] * gap, row) if side == "left" else (row, [7] * gap) for row, gap in zip(rows, gaps, strict=True)]
    assert ids.tolist() == [before + after for before, after in parts]
    assert [[i for i, real in zip(i, m, strict=True) if real] for i, m in zip(ids.tolist(), mask.tolist(), strict=True)] == rows


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_trap_pads_inside_a_sequence_change_nothing(target, side):
    """Soft tokens, ragged text, ragged answers: each row alone gives the same NLL as in the batch, whatever the padding."""
    torch.manual_seed(0)
    soft = torch.randn(3, 4, target.width) * target.embedding_rms
    around = frame(target, POCKET.trial.evaluator)
    questions = [around.question(text) for text in TEXTS]
    answers = [around.answer(text) for text in reversed(TEXTS)]

    def nll(rows: slice) -> torch.Tensor:
        B = len(questions[rows])
        pieces = [
            target.text_piece([around.before] * B),
            target.soft_piece(soft[rows]),
            target.text_piece(questions[rows], side=side),
            target.text_piece([around.after] * B),
        ]
        return target.answer_nll(pieces, answers[rows]).sum(1)

    together = nll(slice(0, 3))
    alone = torch.cat([nll(slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)


def costs_of(lengths, parts, *, start):
    return sum(len(part) * max(lengths[row] for row in part) + start for part in parts)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(0, 60))
def test_parts_of_like_length_hold_every_row_once_and_cost_least(lengths, start):
    parts = by_length(lengths, start=start)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__)
    every = []  # every way to cut the ordered rows
    for choice in range(2 ** (len(lengths) - 1)):
        cuts = [0, *(i + 1 for i in range(len(lengths) - 1) if choice >> i & 1), len(lengths)]
        every.append([ordered[a:b] for a, b in pairwise(cuts)])
    assert costs_of(lengths, parts, start=start) == min(costs_of(lengths, one, start=start) for one in every)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=9))
def test_parts_that_cost_nothing_to_start_are_the_rows_of_each_length(lengths):
    parts = by_length(lengths, start=0)
    assert [{lengths[row] for row in part} for part in parts] == [{length} for length in sorted(set(lengths))]


@given(st.lists(st.integers(1, 40), max_size=9), st.integers(0, 9), st.integers(1, 300))
def test_parts_fit_and_only_a_row_that_fits_nowhere_stands_alone(lengths, new, free):
    parts = that_fit(lengths, new=new, bytes_a_position=2, free=free)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        longest = max(lengths[row] for row in part)
        assert len(part) == 1 or 2 * len(part) * (longest + new) <= free
    for short, long in pairwise(parts):
        assert max(lengths[row] for row in short) <= min(lengths[row] for row in long)
        assert 2 * (len(long) + 1) * (max(lengths[row] for row in long) + new) > free, "one more would have fitted"


def test_rows_passed_in_parts_have_the_nll_and_the_gradient_of_one_pass(target, monkeypatch):
    torch.manual_seed(0)
    soft = (torch.randn(6, 4, target.width) * target.embedding_rms).requires_grad_()
    around = frame(target, POCKET.trial.evaluator)
    answers = [around.answer(TEXTS[row % 3] * (1 + row)) for row in (5, 0, 3, 1, 4, 2)]

    def nll(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(frozen, "PASS", start)
        found = target.answer_nll([target.soft_piece(soft), target.text_piece([around.after] * 6)], answers)
        return found, torch.autograd.grad(found.sum(), soft)[0]

    assert len(by_length([len(row) for row in answers], start=1)) == 6
    for apart, together in zip(nll(1), nll(10**9), strict=True):
        torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-4)


def test_states_come_back_in_the_order_of_the_rows_however_many_positions_a_pass_takes(source, monkeypatch):
    around = frame(source, POCKET.trial.evaluator)
    rows = [around.question(TEXTS[row % 3] * (1 + row)) for row in (5, 0, 3, 1, 4, 2)]
    together, mask = source.states(around.before, rows, (0, source.depth))
    assert together.dtype == source.model.dtype
    monkeypatch.setattr(frozen, "POSITIONS", 1)
    apart, again = source.states(around.before, rows, (0, source.depth))
    assert torch.equal(mask, again)
    torch.testing.assert_close(apart[mask], together[mask], rtol=1e-4, atol=1e-4)
    answers = [row[:3] for row in rows]
    text = [source.text_piece(rows)]
    with torch.no_grad():
        alone = source.answer_nll(text, answers)
        monkeypatch.undo()
        torch.testing.assert_close(alone, source.answer_nll(text, answers), rtol=1e-4, atol=1e-4)


def test_embedded_text_scores_as_plain_tokens_do(target):
    around = frame(target, POCKET.trial.evaluator)
    prompt, answer = around.prompt(TEXTS[1]), around.answer(TEXTS[0])
    with torch.no_grad():
        logits = target.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
    ours = target.answer_nll([target.text_piece([prompt])], [answer]).sum()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-4)


def test_hidden_states_have_unit_rms_and_leave_the_first_position_out(source):
    around = frame(source, POCKET.trial.evaluator)
    rows = [around.question(text) for text in TEXTS]
    states, mask = source.hidden_states(around.before, rows, (0, source.depth))
    assert states.shape == (3, max(map(len, rows)), 2, source.width)
    assert mask.sum(1).tolist() == [len(row) for row in rows]
    torch.testing.assert_close(states[mask].pow(2).mean(-1), torch.ones(int(mask.sum()), 2), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="need a token before the question"):
        source.hidden_states((), rows, (0,))
    with pytest.raises(ValueError, match=rf"hidden states 0\.\.{source.depth}, not 99"):
        source.hidden_states(around.before, rows, (99,))


def test_a_question_keeps_its_states_in_a_padded_batch(source):
    around = frame(source, POCKET.trial.evaluator)
    rows = [around.question(text) for text in TEXTS]
    together, _ = source.hidden_states(around.before, rows, (1, source.depth))
    alone, _ = source.hidden_states(around.before, rows[:1], (1, source.depth))
    torch.testing.assert_close(together[:1, : len(rows[0])], alone, rtol=1e-4, atol=1e-4)


def test_the_weights_cannot_change(target):
    assert not any(p.requires_grad for p in target.model.parameters())
    assert not target.model.training


def test_the_trap_embeddings_that_the_model_scales(target):
    """Gemma multiplies inside its embedding module: `.weight` alone would be sqrt(width) too small."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Gemma3TextConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )
    gemma = lms.FrozenLM("tiny gemma", transformers.Gemma3ForCausalLM(config), target.tokenizer)
    weight = gemma.model.get_input_embeddings().weight
    plain = weight.pow(2).mean(-1).sqrt().median().item()
    assert gemma.embedding_rms == pytest.approx(8 * plain, rel=1e-2)
    assert target.embedding_rms == pytest.approx(target.embed(torch.arange(100)).pow(2).mean(-1).sqrt().mean().item(), rel=0.5)


def test_soft_tokens_of_another_width_are_refused(target):
    with pytest.raises(AssertionError, match="soft tokens of width"):
        target.soft_piece(torch.zeros(1, 2, target.width + 1))


def test_a_tokenizer_without_an_end_token_is_refused(target, source):
    class Endless:
        eos_token_id = None

    with pytest.raises(ValueError, match="no end token"):
        lms.FrozenLM("endless", source.model, Endless())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pocket:sourc", "did you mean 'pocket:source'"),
        ("/no/such/model", "a directory, a .gguf file: unknown model"),
        ("weights.gguf", "unknown model"),
        ("justaname", "a model is a hub id"),
    ],
)
def test_a_model_that_is_not_there_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        names.check(name)


def test_hub_ids_can_be_mapped_to_directories(monkeypatch, source):
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"mistralai/Mistral-7B-v0.3={names.POCKET / 'source'}, some/other=/nowhere")
    mapped = lms.load("mistralai/Mistral-7B-v0.3", device="cpu")
    assert mapped.width == source.width
    with pytest.raises(ValueError, match="unknown model '/nowhere'"):
        names.check("some/other")
    for nonsense in ("nonsense", "a/b="):
        monkeypatch.setenv("RAYBRIDGE_MODELS", nonsense)
        with pytest.raises(ValueError, match="not of the form id=directory"):
            names.check("a/b")


def test_a_mapping_that_leads_nowhere_is_named_with_what_is_expected_and_the_nearest(monkeypatch, tmp_path):
    def said(to: object) -> str:
        monkeypatch.setenv("RAYBRIDGE_MODELS", f"org/name={to}")
        with pytest.raises(ValueError, match=r".") as caught:
            names.check("org/name")
        return str(caught.value)

    expected = "; valid: a directory that is there, a .gguf file"
    pocket = f"RAYBRIDGE_MODELS maps 'org/name' to an unknown model 'pocket:source'{expected}"
    assert said("pocket:source") == f"{pocket}; did you mean '{names.POCKET / 'source'}'?"
    assert said("other/name") == f"RAYBRIDGE_MODELS maps 'org/name' to an unknown model 'other/name'{expected}"
    (tmp_path / "llama-8b").mkdir()
    assert said(tmp_path / "lama-8b").endswith(f"; did you mean '{tmp_path / 'llama-8b'}'?")


@given(st.lists(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=2), min_size=1, max_size=3))
def test_joined_rows_begin_in_the_first_column_in_order_and_without_pads_between(masks):
    values = torch.arange(1.0, 6 * len(masks) + 1).view(len(masks), 2, 3, 1)
    pieces = [
        Piece(embeds_BTD=embeds, mask_BT=torch.tensor(mask), injected={1: -embeds} if number == 0 else {})
        for number, (mask, embeds) in enumerate(zip(masks, values, strict=True))
    ]
    joined = join(pieces)
    for row in range(2):
        real = [piece.embeds_BTD[row, piece.mask_BT[row], 0] for piece in pieces]
        length = sum(map(len, real))
        assert joined.lengths[row] == length
        assert joined.mask_BT[row].tolist() == [True] * length + [False] * (max(joined.lengths) - length)
        assert joined.embeds_BTD[row, :length, 0].tolist() == torch.cat(real).tolist()
        assert joined.injected[1][row, :length, 0].tolist() == torch.cat([-real[0], *(0 * one for one in real[1:])]).tolist()


def test_logits_made_in_chunks_and_made_again_change_neither_value_nor_gradient(target, monkeypatch):
    torch.manual_seed(0)
    around = frame(target, POCKET.trial.evaluator)
    answers = [around.answer(text) for text in TEXTS]
    seen = []
    for chunk in (4096, 5):
        monkeypatch.setattr(vocabulary, "CHUNK", chunk)
        monkeypatch.setattr(vocabulary, "LOGITS", 0)
        soft = torch.randn(3, 4, target.width, generator=torch.Generator().manual_seed(1)).requires_grad_()
        nll = target.answer_nll([target.soft_piece(soft), target.text_piece([around.after] * 3)], answers)
        nll.sum().backward()
        seen.append((nll.detach(), soft.grad))
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-5, atol=1e-6)
    assert (seen[0][0] > 0).sum() == sum(map(len, answers))
