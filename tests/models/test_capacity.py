"""Rows that are more than the memory that is free."""

from types import SimpleNamespace

import pytest
import torch

from raybridge.models.capacity import halved
from raybridge.models.decode import greedy
from raybridge.models.free import CONTEXT, GIB, allotted_bytes, hold_to


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


def test_a_card_without_a_number_is_the_current_one(monkeypatch):
    """torch refuses `cuda` alone where a process's share of a card is asked for or set."""
    shares = {3: 1.0}
    total = SimpleNamespace(total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: total)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda number: shares[number])
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, number: shares.__setitem__(number, share))
    hold_to(torch.device("cuda"), 40 + CONTEXT)
    assert shares == {3: 0.5}
    assert allotted_bytes(torch.device("cuda")) == allotted_bytes(torch.device("cuda:3")) == 40 * GIB
