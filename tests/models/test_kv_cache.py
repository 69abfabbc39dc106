"""The cache that is written in place holds what transformers' own holds, whatever happens to its rows."""

import pytest
import tiny_lms
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from raybridge.models.kv_cache import SPARE, GrowingLayer, growing_cache, kv_bytes
from raybridge.models.prefill import read_on

UNCOUNTED = {"deepseek_v2", "deepseek_v3", "deepseek_v32", "llama4_text"}  # latent attention, attention in chunks
WORDS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, SPARE + 7)),
    st.tuples(st.just("repeat"), st.integers(1, 3)),
    st.tuples(st.just("keep"), st.integers(0, 2**6 - 1)),
)


@given(st.integers(1, 3), st.lists(WORDS, max_size=8))
def test_it_holds_what_transformers_cache_holds(rows, words):
    ours, theirs = DynamicCache(), DynamicCache()
    ours.layers = [GrowingLayer()]
    draw = torch.Generator().manual_seed(0)
    for word, number in [("write", 3), *words]:
        if word == "write":
            keys, values = (torch.randn(rows, 2, number, 4, generator=draw) for _ in range(2))
            for one, other in zip(ours.update(keys, values, 0), theirs.update(keys, values, 0), strict=True):
                assert torch.equal(one, other)
        elif word == "repeat":
            rows *= number
            for cache in (ours, theirs):
                cache.reorder_cache(torch.arange(rows // number).repeat_interleave(number))
        else:
            kept = torch.tensor([row for row in range(rows) if number >> row % 6 & 1] or [rows - 1])
            rows = len(kept)
            for cache in (ours, theirs):
                cache.reorder_cache(kept)
    assert ours.get_seq_length() == theirs.get_seq_length()


@pytest.mark.parametrize("name", tiny_lms.TARGETS)
def test_kv_bytes_are_those_of_the_architectures_own_cache_or_are_not_counted(name):
    lm = tiny_lms.tiny(name)
    try:
        told = kv_bytes(lm.model.config, 6, value_bytes=4)
    except ValueError:
        assert not lm.attends_only or lm.model.config.model_type in UNCOUNTED
        return
    cache = growing_cache(lm.model.config)
    read_on(lm, cache, lm.embed(torch.tensor([[2, 3, 4, 5, 6, 7]])))
    assert told == sum(cache.layers[i].keys.nbytes + cache.layers[i].values.nbytes for i in range(lm.depth))


def test_rows_are_moved_to_the_right_and_written_on_behind():
    layer, draw = GrowingLayer(), torch.Generator().manual_seed(0)
    keys, values, more = (torch.randn(3, 2, 5, 4, generator=draw) for _ in range(3))
    layer.update(keys, values)
    layer.move_right(torch.tensor([0, 2, 5]))
    layer.update(more, more)
    assert torch.equal(layer.keys[0, :, :5], keys[0])
    assert torch.equal(layer.values[1, :, 2:5], values[1, :, :3])
    assert torch.equal(layer.keys[:, :, 5:], more)
    assert layer.get_seq_length() == 10


def test_a_token_is_written_in_place(target):
    cache = growing_cache(target.model.config)
    assert {type(layer) for layer in cache.layers} == {GrowingLayer}
    ids = torch.tensor([[5, 6, 7]])
    places = []
    for _ in range(3):
        target.model(input_ids=ids, past_key_values=cache, use_cache=True)
        places.append(cache.layers[0].keys.data_ptr())
    assert len(set(places)) == 1
    assert cache.get_seq_length() == 9
