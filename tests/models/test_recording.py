"""Passes that are filled up to few shapes and replayed: the same states and gradients, and never one beside another."""

from collections import Counter
from dataclasses import dataclass, field, replace

import by_formula
import pytest
import tiny_lms
import torch
from transformers import LlamaConfig

from raybridge.models import lm as lms
from raybridge.models import packed_lent, packed_prefix, packing, prefill, recording
from raybridge.models.frozen import FrozenLM
from raybridge.models.prefill import lend
from raybridge.models.recording import Recorder, Shape, room_for, up

ROWS = [[5, 6, 7, 8, 9], [10, 11], [], [12, 13, 14]]
CUE, REPEATS = [3, 4], [[20, 21], [22], [23, 24, 25], [26]]


@dataclass
class Played:
    """A recording that runs what a graph would replay, on what the graph would read."""

    run: object
    shape: Shape
    like: dict
    pool: object
    times: int = field(default=0)

    def __post_init__(self):
        self.told = self.shape.told(self.like)

    def there(self, given):
        self.shape.fill(self.told, given)
        self.times += 1
        with torch.set_grad_enabled(self.shape.gradient):
            self.found = self.run(self.told, self.shape.wanted)
        return [one.detach()[:, : given[self.shape.read].shape[1]].clone() for one in self.found]

    def back(self, gradient):
        whole = torch.zeros_like(self.found[0])
        whole[:, : gradient.shape[1]] = gradient
        (back,) = torch.autograd.grad(self.found[0], self.told[self.shape.read], whole, retain_graph=True)
        return back[:, : gradient.shape[1]].clone()


@pytest.fixture
def lm(monkeypatch) -> FrozenLM:
    """It packs, and attends by formulas."""
    for room in (packed_prefix, packed_lent):
        monkeypatch.setattr(room, "flash", by_formula.forward)
        monkeypatch.setattr(room, "backward", by_formula.backward)
    monkeypatch.setattr(packing, "attend", tiny_lms.sequence_by_sequence)
    monkeypatch.setattr(FrozenLM, "packs", True)
    monkeypatch.setattr(prefill, "_packs", lambda lm, found: True)
    monkeypatch.setattr(recording, "RUNS", 0)
    shape = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3)
    found = FrozenLM("grouped", tiny_lms.made(LlamaConfig(vocab_size=64, **shape)), tiny_lms.tokenizer())
    found.shares_prompts = True
    return found


def record(lm: FrozenLM) -> Recorder:
    lm._recorder = Recorder(lm._run_packed, record=Played)
    return lm._recorder


def soft_of(lm: FrozenLM, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(4, 3, lm.width, generator=torch.Generator().manual_seed(seed))
    return (drawn * lm.embedding_rms).requires_grad_()


def alone(lm, soft, lent):
    return lm.answer_nll([lm.soft_piece(soft), lm.text_piece([CUE] * 4)], ROWS, lent=lent)


def together(lm, soft, lent):
    texts = [(CUE, ROWS), ([3], REPEATS)]
    found = zip(lm.texts_states([lm.text_piece([[1, 2]] * 4), lm.soft_piece(soft)], texts), texts, strict=True)
    return torch.cat([lm.states_nll(hidden, ids, list(map(len, rows))).flatten() for (hidden, ids, _), (_, rows) in found])


@pytest.mark.parametrize("way", [alone, together])
@pytest.mark.parametrize("exemplars", [False, True])
def test_nll_and_gradient_are_those_of_the_pass_as_it_is(lm, way, exemplars):
    vars(lm)["shares_beginnings"] = True
    lent = lend(lm, list(range(1, 40)), longest=64) if exemplars else None
    softs = [soft_of(lm, seed) for seed in range(3)]

    def read():
        found = []
        for soft in softs:
            nll = way(lm, soft, lent)
            found += [nll.detach(), *torch.autograd.grad(nll.sum(), soft)]
            del nll  # who may go back once more holds the memory
        return found

    plain = read()
    recorder = record(lm)
    for _ in range(2):  # what a recording reads has then what another pass left behind the row
        for one, other in zip(read(), plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    (played,) = recorder.recordings.values()
    assert played.times == 6
    assert (played.shape.sizes is not None) == (way is together)


def test_states_of_a_source_are_those_of_the_pass_as_it_is(lm):
    plain, mask = lm.states([1, 2], [row for row in ROWS if row], (0, 1, lm.depth))
    recorder = record(lm)
    for _ in range(2):
        found, again = lm.states([1, 2], [row for row in ROWS if row], (0, 1, lm.depth))
        assert torch.equal(mask, again)
        torch.testing.assert_close(found[mask], plain[mask], rtol=1e-5, atol=1e-6)
    (played,) = recorder.recordings.values()
    assert (played.times, played.shape.gradient, played.shape.wanted) == (2, False, (0, 1, lm.depth))


def test_two_objectives_go_back_through_one_replay(lm):
    soft = soft_of(lm)
    plain = alone(lm, soft, None)
    wanted = [torch.autograd.grad(plain[row].sum(), soft, retain_graph=True)[0] for row in (0, 3)]
    recorder = record(lm)
    nll = alone(lm, soft, None)
    found = [torch.autograd.grad(nll[row].sum(), soft, retain_graph=True)[0] for row in (0, 3)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert [one.times for one in recorder.recordings.values()] == [1]


def test_the_trap_a_second_pass_that_overwrites_what_the_first_goes_back_through(lm):
    softs = [soft_of(lm, seed) for seed in range(2)]
    wanted = [torch.autograd.grad(alone(lm, soft, None).sum(), soft)[0] for soft in softs]
    recorder = record(lm)
    both = [alone(lm, soft, None) for soft in softs]
    found = [torch.autograd.grad(both[number].sum(), softs[number])[0] for number in range(2)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    (played,) = recorder.recordings.values()
    assert played.times == 1, "the second ran as it is, for the first had not gone back"
    del both
    alone(lm, softs[0], None)
    assert played.times == 2, "and when nobody needs the first any more, its memory is free"


def test_exemplars_and_none_are_replayed_side_by_side(lm):
    lent, soft = lend(lm, list(range(1, 40)), longest=64), soft_of(lm)
    plain = [alone(lm, soft, one) for one in (lent, None)]
    (wanted,) = torch.autograd.grad(sum(nll.sum() for nll in plain), soft)
    recorder = record(lm)
    both = [alone(lm, soft, one) for one in (lent, None)]
    (found,) = torch.autograd.grad(sum(nll.sum() for nll in both), soft)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert [one.times for one in recorder.recordings.values()] == [1, 1]


def test_a_shape_is_recorded_when_it_comes_again(lm, monkeypatch):
    monkeypatch.setattr(recording, "RUNS", 2)
    recorder = record(lm)
    seen = []
    for _ in range(4):
        alone(lm, soft_of(lm), None)
        seen.append(len(recorder.recordings))
    assert seen == [0, 0, 1, 1]


def test_what_is_injected_or_computed_again_is_not_recorded(lm):
    soft = soft_of(lm)
    place = lm.soft_piece(soft)
    added = replace(place, injected={1: 0.3 * place.embeds_BTD})
    pieces = [added, lm.text_piece([CUE] * 4)]
    wanted = lm.answer_nll(pieces, ROWS)
    assert not torch.equal(wanted, alone(lm, soft, None))
    recorder = record(lm)
    assert torch.equal(lm.answer_nll(pieces, ROWS), wanted)
    with lm.recomputing():
        alone(lm, soft, None)
    with lm.as_written():
        alone(lm, soft, None)
    assert not recorder.recordings
    assert lm._recorder is recorder


def test_what_is_recorded_is_given_back_where_layers_are_computed_again(lm):
    recorder = record(lm)
    alone(lm, soft_of(lm), None)
    assert recorder.recordings
    with lm.recomputing():
        assert not recorder.recordings
    assert not lm.forget()


KEPT = {}  # by place, who has been there last and so overwritten what was there before


@dataclass
class InPlace(Played):
    """A recording whose passes lie where those of its place do."""

    def there(self, given):
        KEPT[id(self.pool)] = self
        return super().there(given)

    def back(self, gradient):
        assert KEPT[id(self.pool)] is self, "another pass has overwritten what this one goes back through"
        return super().back(gradient)


def test_two_shapes_in_one_place_are_never_in_flight_together(lm, monkeypatch):
    pool = object()
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: pool)
    lm._recorder = Recorder(lm._run_packed, record=InPlace)
    lm._recorder._pools[(None, False)] = pool
    long = [row * 30 for row in ROWS]

    def nll(soft, rows):
        return lm.answer_nll([lm.soft_piece(soft), lm.text_piece([CUE] * 4)], rows)

    softs = [soft_of(lm, seed) for seed in range(2)]
    with lm.as_written():
        wanted = [torch.autograd.grad(nll(*one).sum(), one[0])[0] for one in zip(softs, (ROWS, long), strict=True)]
    for _ in range(2):
        both = [nll(*one) for one in zip(softs, (ROWS, long), strict=True)]
        found = [torch.autograd.grad(both[number].sum(), softs[number])[0] for number in range(2)]
        del both
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        torch.autograd.grad(nll(softs[1], long).sum(), softs[1])  # alone it is recorded
    assert len(lm._recorder.recordings) == 2


@pytest.mark.parametrize("window", [9, 200])
def test_no_sequence_is_longer_than_a_window(window):
    """The longest is rounded up to 512, and what a row is filled up with may be longer than a window."""
    given = {"input_ids": torch.zeros(1, 40), "position_ids": torch.arange(40)[None], "max_length_q": 8}
    given["cu_seq_lens_q"] = torch.tensor([0, 8, 16, 24, 32, 40], dtype=torch.int32)
    shape = Shape.of(given, [3], lent=None, gradient=False, window=window)
    filled = shape.told(given)
    shape.fill(filled, given)
    bounds = filled["cu_seq_lens_q"]
    assert shape.longest == filled["max_length_q"] == min(window, 512)
    assert bounds[:6].tolist() == given["cu_seq_lens_q"].tolist()
    assert bounds[-1] == shape.positions == 64
    assert 0 <= bounds.diff().min() <= bounds.diff().max() <= shape.longest


def test_behind_a_row_stands_no_position_of_a_longer_one():
    shape, filled = None, None
    for length in (60, 40):
        given = {"input_ids": torch.ones(1, length), "position_ids": torch.arange(length)[None] + 500, "max_length_q": length}
        given["cu_seq_lens_q"] = torch.tensor([0, length], dtype=torch.int32)
        shape = Shape.of(given, [3], lent=None, gradient=False)
        filled = filled or shape.told(given)
        shape.fill(filled, given)
    assert filled["position_ids"][0].tolist() == [*range(500, 540), *[0] * 24]


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing"), torch.OutOfMemoryError()])
def test_a_model_that_cannot_be_recorded_is_run_as_it_is_and_it_is_said_once(lm, caplog, error):
    def failing(*_):
        raise error

    plain = alone(lm, soft_of(lm), None)
    lm._recorder = Recorder(lm._run_packed, record=failing)
    for _ in range(3):
        assert torch.equal(alone(lm, soft_of(lm), None), plain)
    assert caplog.text.count("passes are run as they are from here on") == 1


def test_what_cannot_be_recorded_in_few_kernels_is_recorded_as_it_is_run(lm, caplog):
    def few(*_):
        raise AssertionError("not this one")

    def recorded(run, *told):
        if run is few:
            raise RuntimeError("another width")
        return Played(run, *told)

    plain = alone(lm, soft_of(lm), None)
    lm._recorder = Recorder(lm._run_packed, recorded=few, record=recorded)
    for _ in range(4):
        torch.testing.assert_close(alone(lm, soft_of(lm), None), plain)
    assert len(lm._recorder.recordings) == 1
    assert not lm._recorder.refused
    assert caplog.text.count("recorded as they are run from here on") == 1


def test_without_memory_for_it_nothing_is_recorded_and_it_is_looked_for_again(lm, monkeypatch):
    monkeypatch.setattr(recording, "WAIT", 2)
    asked = []

    def fits(shape, times):
        asked.append(times)
        return len(asked) > 1

    lm._recorder = Recorder(lm._run_packed, fits=fits, record=Played)
    seen = []
    for _ in range(4):
        alone(lm, soft_of(lm), None)
        seen.append(len(lm._recorder.recordings))
    assert (seen, asked) == ([0, 0, 1, 1], [2, 2]), "a first recording must find room beside a pass that is run"
    lm.answer_nll([lm.soft_piece(soft_of(lm))], [row * 30 for row in ROWS])
    assert asked == [2, 2, 1], "a further one has the memory of the first"
    lm.forget()
    alone(lm, soft_of(lm), None)
    assert asked == [2, 2, 1, 3], "where memory has ended it takes more than there was"


def test_nothing_is_recorded_on_a_cpu(lm):
    with lm.recording():
        assert lm._recorder is None


@pytest.mark.parametrize("positions", [1, 63, 64, 65, 1500, 4095, 4096, 6001, 33000])
def test_a_row_is_filled_up_by_an_eighth_at_most(positions):
    filled = up(positions, room_for(positions))
    assert positions <= filled < positions + room_for(positions)
    assert positions < 512 or filled <= positions * 1.125
    assert positions < 30000 or filled <= positions * 1.02


def test_batches_of_the_same_problems_have_few_shapes():
    """Eight of GSM8K spread by 175 positions about 2,060; what a kernel is told beside them has none of its own."""
    drawn = torch.Generator().manual_seed(0)
    shapes = Counter()
    for own in (torch.randn(300, 8, generator=drawn) * 62 + 257).int().clamp(min=60).tolist():
        positions, lengths = sum(own), sorted(own)
        given = {"inputs_embeds": torch.zeros(1, positions, 2), "max_length_q": lengths[-1] - 100}
        given["cu_seq_lens_q"] = torch.zeros(25)
        given["beginnings"] = torch.zeros(9), torch.zeros(9), (784, lengths[-1] - 98, 98)
        shapes[Shape.of(given, [32], lent=None, gradient=True)] += 1
    assert sum(times for _, times in shapes.most_common(8)) >= 0.95 * 300


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU")


def of_rows(lm, lent, asked):
    """The NLL of each soft prompt's rows, and the gradients of two of them."""
    return [of_one(lm, lent, soft, rows) for soft, rows in asked]


def of_one(lm, lent, soft, rows):
    """Of one soft prompt; a pass whose gradient may still be asked for would hold the place of the next."""
    nll = lm.answer_nll([lm.soft_piece(soft), lm.text_piece([CUE] * 4)], rows, lent=lent)
    return [nll.detach(), *(torch.autograd.grad(nll[row].sum(), soft, retain_graph=True)[0] for row in (0, 3))]


def asked_of(lm, exemplars):
    """What is lent to a model on a GPU, and soft prompts with rows of two lengths."""
    torch.manual_seed(0)
    lent = lend(lm, list(range(5, 60)), longest=64) if exemplars else None
    softs = [(torch.randn(4, 3, lm.width, device="cuda") * lm.embedding_rms).requires_grad_() for _ in range(4)]
    return lent, list(zip(softs, (ROWS, [row * 30 for row in ROWS]) * 2, strict=True))


def replayed(lm, lent, asked):
    """The same from recordings."""
    with lm.recording():
        for _ in range(2):
            found = of_rows(lm, lent, asked)
        assert len(lm._recorder.recordings) == 2
        assert not lm._recorder.refused
    return found


@GPU
@pytest.mark.parametrize("exemplars", [False, True])
def test_on_a_gpu_graphs_give_what_passes_give(exemplars, monkeypatch):
    monkeypatch.setattr(recording, "RUNS", 0)
    lm = lms.load("pocket:target", device="cuda")
    assert lm.packs
    monkeypatch.setattr(lm, "_run_in_few", lm._run_packed)
    lent, asked = asked_of(lm, exemplars)
    wanted = of_rows(lm, lent, asked)
    for one, other in zip(replayed(lm, lent, asked), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


@GPU
@pytest.mark.parametrize("exemplars", [False, True])
def test_on_a_gpu_few_kernels_are_as_near_to_fp32_as_many(exemplars, monkeypatch):
    monkeypatch.setattr(recording, "RUNS", 0)
    lm, exact = (lms.load("pocket:target", device="cuda", dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    lent, asked = asked_of(lm, exemplars)
    wanted = of_rows(exact, asked_of(exact, exemplars)[0], asked)
    many, few = [distances(found, wanted) for found in (of_rows(lm, lent, asked), replayed(lm, lent, asked))]
    for one, other in zip(few, many, strict=True):
        assert one <= 1.5 * other


def distances(found, wanted):
    """How far, relative to their norm, values and gradients are, each over all that was asked."""
    each = [[torch.cat([one.flatten() for one in of_all]) for of_all in zip(*said, strict=True)] for said in (found, wanted)]
    return [((one - other).norm() / other.norm()).item() for one, other in zip(*each, strict=True)]
