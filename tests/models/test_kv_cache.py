"""The cache that is written in place holds what transformers' own holds, whatever happens to its rows."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from raybridge.models.kv_cache import SPARE, GrowingLayer, growing_cache

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
