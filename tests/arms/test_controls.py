"""Which other problem `shuffled` answers with."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from raybridge.arms.controls import NEIGHBOURS, partners

SEEDS = st.integers(0, 2**31 - 1)


@given(count=st.integers(2, 130), seed=SEEDS)
def test_shuffled_is_a_derangement_among_neighbours_by_seed(count, seed):
    moved = partners(count, seed)
    assert sorted(moved) == list(range(count))  # everyone's soft tokens are given to one other problem
    assert all(0 < abs(mine - other) < NEIGHBOURS for mine, other in enumerate(moved))


@given(seeds=st.lists(SEEDS, min_size=2, max_size=2, unique=True))
def test_shuffled_differs_between_seeds(seeds):
    one, other = (partners(128, seed) for seed in seeds)
    assert one != other
    assert {partners(3, seed)[0] for seed in range(20)} == {1, 2}  # both derangements of three are drawn


@given(count=st.integers(2, 40), seed=st.integers(0, 2**63 - 1))
def test_the_draws_are_those_of_torchs_generator(count, seed):
    """By which rows on disk were drawn: the same neighbours, whoever draws."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [min(NEIGHBOURS, count - start) for start in range(0, count, NEIGHBOURS)]
    if sizes[-1] == 1:
        sizes[-2:] = [NEIGHBOURS - 1, 2]
    order = []
    for size in sizes:
        window = list(range(len(order), len(order) + size))
        for last in range(size - 1, 0, -1):
            other = int(torch.randint(last, (1,), generator=generator))
            window[last], window[other] = window[other], window[last]
        order += window
    assert partners(count, seed) == order
