"""Passes that are filled up to few shapes and replayed: the same states and gradients, and never one beside another."""

from dataclasses import dataclass, field, replace

import by_formula
import pytest
import tiny_lms
import torch
from transformers import LlamaConfig

from raybridge.models import packed_lent, packed_prefix, packing, prefill, recording
from raybridge.models.frozen import FrozenLM
from raybridge.models.prefill import lend
from raybridge.models.recording import Recorder, Shape

ROWS = [[5, 6, 7, 8, 9], [10, 11], [], [12, 13, 14]]
CUE, REPEATS = [3, 4], [[20, 21], [22], [23, 24, 25], [26]]


@dataclass
class Played:
    """A recording that runs what a graph would replay, on what the graph would read."""

    run: object
    shape: Shape
    like: dict
    pool: object
    room: int
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

    def finds_room(shape, times):
        asked.append(times)
        return 0 if len(asked) > 1 else None

    lm._recorder = Recorder(lm._run_packed, finds_room=finds_room, record=Played)
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
