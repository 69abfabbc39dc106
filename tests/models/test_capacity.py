"""Rows that are more than the memory that is free."""

import pytest
import torch

from raybridge.models.capacity import halved
from raybridge.models.decode import greedy


def test_rows_are_halved_until_they_fit_and_come_back_in_their_order(caplog):
    asked = []

    def work(rows):
        asked.append(list(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return [10 * row for row in rows]

    assert halved(range(11), work) == [10 * row for row in range(11)]
    assert [len(rows) for rows in asked] == [11, 5, 2, 3, 6, 3, 3]
    assert "11 rows at once are more than the memory that is free" in caplog.text


def test_a_row_that_fits_nowhere_is_an_error():
    def work(rows):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        halved([0, 1], work)


def test_completions_are_the_same_where_memory_ends_on_the_way(target, monkeypatch):
    pieces = [target.text_piece([[5, 6, 7], [8], [9, 10, 11, 12], [13, 14]])]
    whole = greedy(target, pieces, max_new_tokens=6, shared=[1, 2])
    embed = target.embed

    def short(ids):
        if len(ids) > 2 and ids.shape[1] == 1:  # the first token behind the prompts
            raise torch.OutOfMemoryError
        return embed(ids)

    monkeypatch.setattr(target, "embed", short)
    assert greedy(target, pieces, max_new_tokens=6, shared=[1, 2]) == whole
