"""The shapes that passes are filled up to: few of them, and none in which a sequence is longer than a kernel is told."""

from collections import Counter

import pytest
import torch

from raybridge.models.recording import Shape, room_for, up


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
