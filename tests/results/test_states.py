"""States on disk: what was put there comes back, whoever put it there, and a damaged file is named."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybridge.results.states import States, digest


@pytest.fixture
def states(tmp_path):
    return States(root=tmp_path / "states", budget=10**6)


def part(*questions: tuple[str, int], seed: int = 0, width: int = 3):
    """Lengths by question, and a layer of random states for all of their positions."""
    lengths = dict(questions)
    return lengths, np.random.default_rng(seed).normal(size=(sum(lengths.values()), width)).astype(np.float32)


def test_what_was_put_there_comes_back_for_each_question_and_layer(states):
    shelf = states.shelf("s")
    lengths, rows = part(("a", 2), ("b", 5), ("c", 1))
    assert shelf.lacks(["a", "b", "c"], [4]) == ["a", "b", "c"]
    shelf.write(lengths, {4: rows, 16: -rows})
    assert shelf.lacks(["c", "a"], [4, 16]) == []
    assert shelf.lacks(["c", "d"], []) == [], "who reads no layer lacks none"
    assert np.array_equal(shelf.read("b", [4])[0], rows[2:7])
    assert [states.tolist() for states in shelf.read("c", [16, 4])] == [(-rows[7:]).tolist(), rows[7:].tolist()]


def test_another_process_finds_what_came_meanwhile(states):
    one, other = states.shelf("s"), states.shelf("s")
    assert other.lacks(["a"], [0]) == ["a"]
    lengths, rows = part(("a", 2))
    one.write(lengths, {0: rows})
    assert other.lacks(["a"], [0]) == []
    one.write(lengths, {7: 2 * rows})  # a layer more of the same questions
    assert other.lacks(["a"], [0, 7]) == []
    assert np.array_equal(other.read("a", [7])[0], 2 * rows)
    assert states.shelf("another").lacks(["a"], [0]) == ["a"]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 5))
def test_parts_of_any_sizes_give_every_question_its_own(tmp_path_factory, lengths, size):
    shelf = States(root=tmp_path_factory.mktemp("states")).shelf("s")
    names = [str(i) for i in range(len(lengths))]
    for start in range(0, len(names), size):
        some = dict(zip(names[start : start + size], lengths[start : start + size], strict=True))
        shelf.write(some, {1: np.concatenate([np.full((n, 2), int(name), np.float32) for name, n in some.items()])})
    assert shelf.lacks(names, [1]) == []
    for name, n in zip(names, lengths, strict=True):
        assert shelf.read(name, [1])[0].tolist() == [[float(name)] * 2] * n


def test_a_layer_that_a_kill_left_without_its_checksums_is_not_there(states):
    shelf = states.shelf("s")
    lengths, rows = part(("a", 2), ("b", 3))
    shelf.write(lengths, {0: rows})
    next((states.root / "s").glob("*/layer_000.json")).unlink()
    again = states.shelf("s")
    assert again.lacks(["a"], [0]) == ["a"]
    again.write(lengths, {0: rows})
    assert np.array_equal(again.read("b", [0])[0], rows[2:])


@pytest.mark.parametrize("at", [-5, 3, 140])
def test_a_flipped_byte_is_named(states, at):
    lengths, rows = part(("a", 2), ("b", 3), width=8)
    states.shelf("s").write(lengths, {0: rows})
    (file,) = (states.root / "s").glob("*/layer_000.npy")
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(bytes(content))
    shelf = states.shelf("s")
    assert shelf.lacks(["a", "b"], [0]) == []
    with pytest.raises(ValueError, match=r"layer_000.npy is damaged .*; delete .* and the source reads its questions again"):
        [shelf.read(question, [0]) for question in lengths]


def test_the_budget_counts_what_is_there(states):
    assert states.take(10**6)
    assert not states.take(10**6 + 1)
    lengths, rows = part(("a", 100))
    states.shelf("s").write(lengths, {0: rows})
    assert states.used > 100 * 3 * 4
    assert not states.take(10**6)
    assert states.take(10**6 - states.used)


def test_without_a_budget_it_is_a_share_of_the_disk_whatever_is_kept_already(tmp_path):
    states = States(root=tmp_path / "not" / "yet")
    assert 0 < states.most < 10**15
    assert states.take(1)


def test_a_budget_is_no_more_than_the_disk_has(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert States(root=tmp_path, budget=100 * free).most <= free + 2**30  # others write and delete meanwhile


def test_checksums_that_are_none_are_named(states):
    lengths, rows = part(("a", 2))
    states.shelf("s").write(lengths, {0: rows})
    (file,) = (states.root / "s").glob("*/layer_000.json")
    file.write_text('{"crc32": 5}')
    shelf = states.shelf("s")
    assert shelf.lacks(["a"], [0]) == []
    with pytest.raises(ValueError, match=r"layer_000.json is damaged \(5 are no checksums\); delete"):
        shelf.read("a", [0])


def test_a_question_is_known_by_its_tokens():
    assert digest([1, 23]) == digest((1, 23)) != digest([12, 3])
