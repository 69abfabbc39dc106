"""Rows in slots: the completions of a batch that grows, however many slots there are and whoever comes into one."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import tiny_lms
import torch
from transformers import LlamaConfig

from raybridge.models import continuous, probe
from raybridge.models.decode import greedy
from raybridge.models.hardening import PLAIN, Hardening
from raybridge.models.prefill import Prefix, read_in_parts
from raybridge.models.replay import Replay
from raybridge.models.slots import Slots

ROWS = [[5, 6, 7, 8], [9], [10, 11, 12, 13, 14, 15], [16], [17, 18], [19, 20, 21], [22]]
NAMES = [str(number) for number in range(len(ROWS))]
SHARED = [2, 3, 4, 5]


@pytest.fixture(scope="module")
def lm():
    return probe.seen(tiny_lms.tiny("llama"))


def prompts(lm):
    """Soft tokens, with something injected at them, and text behind them."""
    soft = lm.soft_piece(torch.randn(len(ROWS), 2, lm.width, generator=torch.Generator().manual_seed(0)))
    return [replace(soft, injected={1: 0.3 * soft.embeds_BTD}), lm.text_piece(ROWS)]


def completions(lm, **told):
    return greedy(lm, prompts(lm), **{"max_new_tokens": 21, "shared": SHARED, "names": NAMES} | told)


HARDENED = [PLAIN, Hardening(top_p=0.9, temperature=2.0), Hardening(ban_end=30), Hardening(repetition_penalty=4.0)]


def tried(lm):
    return ({}, {"stop": [lm.text([7]), lm.text([40, 41])]}, {"shared": []}, {"max_new_tokens": 1})


@cache
def grown(lm, hardening: Hardening):
    """The completions of a batch that grows, which knows no slots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm, "decodes_in_slots", False)
        return [completions(lm, hardening=hardening, **told) for told in tried(lm)]


@pytest.mark.parametrize("hardening", HARDENED, ids=lambda one: one.label or "plain")
@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
@pytest.mark.parametrize("slots", [1, 2, 3, 100])
def test_completions_are_those_of_a_batch_that_grows(lm, slots, late, hardening, monkeypatch):
    """late: as on a GPU."""
    monkeypatch.setattr(continuous, "looks_late", lambda device: late)
    monkeypatch.setattr(continuous, "MOST", slots)
    assert lm.decodes_in_slots
    assert [completions(lm, hardening=hardening, **told) for told in tried(lm)] == grown(lm, hardening)


def test_a_row_that_has_ended_leaves_its_slot_before_the_others_end(lm, monkeypatch):
    """With as many slots as half the rows, the passes are far fewer than twice those of the longest row."""
    monkeypatch.setattr(continuous, "MOST", 4)
    monkeypatch.setattr(continuous, "BLOCK", 2)
    whole = completions(lm)
    ends = [lm.text([ord(one.text[3]) - tiny_lms.FIRST]) for one in whole[:3]]
    ran = []
    passed = continuous.Replay.logits
    monkeypatch.setattr(continuous.Replay, "logits", lambda self: ran.append(self.slots.seats.running) or passed(self))
    cut = completions(lm, stop=ends)
    assert {one.tokens for one in cut} != {21}, "some end early"
    assert max(ran) == 4
    assert sum(ran) < 4 * 2 * 20


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_rows_that_run_on_behind_their_end_ask_for_no_position_that_is_not_there(name, monkeypatch):
    """Learnt positions are a table: a row that ends in the middle of a block is passed on to its end all the same."""
    monkeypatch.setattr(continuous, "looks_late", lambda device: True)
    lm = probe.seen(tiny_lms.tiny(name))
    room = lm.positions - len(SHARED) - 6
    monkeypatch.setattr(continuous, "MOST", 3)
    done = greedy(lm, [lm.text_piece(ROWS)], max_new_tokens=room, shared=SHARED)
    assert max(one.tokens for one in done) == room


@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
def test_rows_that_come_in_at_any_block_write_what_they_write_alone(lm, late, monkeypatch):
    """Rows of many lengths, of which some end at each look; slots are freed and taken, and fewer at the end."""
    monkeypatch.setattr(continuous, "looks_late", lambda device: late)
    monkeypatch.setattr(continuous, "FREE", 8)
    monkeypatch.setattr(continuous, "BLOCK", 3)
    rows = [[5 + (7 * number + i) % 40 for i in range(1 + number % 6)] for number in range(24)]
    told = {"max_new_tokens": 17, "shared": SHARED}
    whole = greedy(lm, [lm.text_piece(rows)], **told)
    told["stop"] = [whole[number].text[number] for number in (2, 6, 10)]
    alone = [greedy(lm, [lm.text_piece([row])], **told)[0] for row in rows]
    assert len({len(one.text) for one in alone}) > 4
    for slots in (3, 5, 24):
        monkeypatch.setattr(continuous, "MOST", slots)
        assert greedy(lm, [lm.text_piece(rows)], **told) == alone


def test_a_slot_that_gets_no_row_runs_on_within_its_room(lm, monkeypatch):
    """As on a GPU, where slots run by halves of all: two have ended after 2 tokens, and are left over when others come in."""

    class Halved(Replay):
        def __init__(self, slots, *, captures):
            super().__init__(slots, captures=False)
            self.captures = True

        def prepare(self):
            pass

        def logits(self):
            made = self._passed(few=False)
            self.slots.seats.advance()
            return made

    ends = [2] * 5 + [80] + [100] * 22

    def let_go(self, *, new):
        over = [place for place, row in enumerate(self.seated) if row is not None and len(self.written[row]) >= ends[row]]
        for place in over:
            self.seated[place] = None
        self.slots.seats.set(over, [0] * len(over))

    monkeypatch.setattr(continuous, "Replay", Halved)
    monkeypatch.setattr(continuous.Table, "_let_go", let_go)
    monkeypatch.setattr(continuous, "MOST", 24)
    assert len(greedy(lm, [lm.text_piece([[5, 6, 7]] * 28)], max_new_tokens=100, shared=SHARED)) == 28


def test_slots_are_as_many_as_find_room(lm, monkeypatch):
    made = []
    own = continuous.Slots
    monkeypatch.setattr(continuous, "Slots", lambda *args, **told: made.append(told) or own(*args, **told))
    monkeypatch.setattr(continuous, "free_bytes", lambda device: 0)
    whole = completions(lm)
    assert [told["count"] for told in made] == [1]
    assert made[0]["room"] == 8 + 21 + continuous.BLOCK
    monkeypatch.undo()
    assert completions(lm) == whole


def four_tokens(lm, *, captures: bool) -> torch.Tensor:
    """Logits behind four tokens of every slot."""
    slots, asked = Slots(lm, Prefix.read(lm, SHARED, once=True), count=len(ROWS), room=32), lm.text_piece(ROWS)
    for part, found, _ in read_in_parts(lm, asked, slots.prefix):
        slots.fill(part, found, [asked.lengths[i] for i in part])
    slots.seats.running = len(ROWS)
    slots.token.copy_(torch.arange(len(ROWS)) + 5)
    replay = Replay(slots, captures=captures)
    return torch.stack([replay.logits().float().cpu() for _ in range(4)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU")
def test_on_a_gpu_a_graph_of_few_kernels_is_as_near_to_fp32_as_many():
    shape = dict(hidden_size=64, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3)
    model = tiny_lms.made(LlamaConfig(vocab_size=64, **shape)).bfloat16()  # heads of 16, as flash attention takes them
    exact = four_tokens(tiny_lms.FrozenLM("llama", deepcopy(model).float(), tiny_lms.tokenizer()), captures=False)
    lm = tiny_lms.FrozenLM("llama", model.to("cuda"), tiny_lms.tokenizer())
    few, many = (four_tokens(lm, captures=captures) for captures in (True, False))
    assert not torch.equal(few, many)
    assert (few - exact).norm() <= 1.5 * (many - exact).norm()
