"""A frozen source whose states of questions are kept on disk: it is in memory only while something is not there.

What is kept is what its layers gave, in its own precision: brought to unit RMS when it is read, as when it is computed.

Shapes: B questions, T positions, L layers, S source width, N positions of all questions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from raybridge.models import names
from raybridge.models.frozen import FrozenLM, unit_rms
from raybridge.models.identity import digest as digest_of
from raybridge.models.identity import model_identity
from raybridge.models.lm import precision
from raybridge.models.pieces import prefixes, sent
from raybridge.results.states import Shelf, States, digest

AHEAD = 2  # batches whose states are fetched and not yet asked for
AT_ONCE = 32  # questions whose states leave the device together
READERS = 4  # threads that read states
Key = tuple[tuple[int, ...], tuple[str, ...], tuple[int, ...]]  # what stands before questions, their digests, layers
BITS = {torch.bfloat16: torch.int16}  # NumPy has no bf16: its bits are kept

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Questions (token rows) that a source reads behind one prompt, and the layers that are wanted of them."""

    source: str
    before: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Fetched:
    """States (L, N, S) of questions that were on disk, which of the questions these are, and how many positions each has.

    copied: what a device has passed by when they are on it; None where they are.
    """

    there: list[int]
    lengths: list[int]
    states_LNS: Tensor
    copied: torch.cuda.Event | None

    def on_device(self) -> Tensor:
        """The states, where the device's own work may read them."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.states_LNS.device)
            stream.wait_event(self.copied)
            self.states_LNS.record_stream(stream)
        return self.states_LNS

    def places(self, longest: int) -> Tensor:
        """Where the positions are (N) among those of all questions, each of which has room for the longest."""
        own = [row * longest + np.arange(length) for row, length in zip(self.there, self.lengths, strict=True)]
        return torch.from_numpy(np.concatenate(own))


class KeptSource:
    """A source by name. load: brings the model itself into memory, where something has to be computed.

    It stands where a `FrozenLM` stands that is asked for states alone.
    """

    def __init__(self, name: str, *, device: torch.device, kept: States, load: Callable[[], FrozenLM]) -> None:
        model = model_identity(name)
        self.name, self.tokenizer, self.weights = name, model.tokenizer, model.weights
        self.text, self.tokenize = model.text, model.tokenize
        self.device, self.kept, self.load = device, kept, load
        self.dtype = precision(device)
        self._ahead: dict[Key, Fetched] = {}
        self._shelves = lru_cache(maxsize=8)(self._shelf)

    @property
    def as_lm(self) -> FrozenLM:
        """What a prompt is made for: of a model, that needs its tokenizer alone."""
        return cast(FrozenLM, self)

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return names.width_of(self.name)

    def bytes(self, positions: int, layers: Sequence[int]) -> int:
        """What the states of so many positions take on disk."""
        return positions * len(layers) * self.width * self.dtype.itemsize

    def lacking(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> list[Sequence[int]]:
        """Those of the questions, each once, that are not on disk in all of these layers."""
        by_digest = {digest(row): row for row in rows}
        return [by_digest[one] for one in self.shelf(before).lacks(list(by_digest), layers)]

    def more(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> int:
        """Bytes that the states of these questions take beside what is on disk of them."""
        return sum(self.bytes(sum(map(len, some)), absent) for absent, some in self._absent(before, rows, layers).items())

    def keep(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> None:
        """Read what is not on disk and put it there; nothing where that would be more than the budget."""
        rows = self.lacking(before, rows, layers)
        if not rows or not self.kept.take(self.more(before, rows, layers)):
            return
        for absent, some in self._absent(before, rows, layers).items():
            states_NLS = self._read(before, some, list(absent))
            of_layers = {layer: np.ascontiguousarray(states_NLS[:, i]) for i, layer in enumerate(absent)}
            self.shelf(before).write({digest(row): len(row) for row in some}, of_layers)

    def _absent(
        self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[tuple[int, ...], list[Sequence[int]]]:
        """Questions, each once, by the layers that are not on disk of them; without those that are there in all."""
        by_digest, shelf = {digest(row): row for row in rows}, self.shelf(before)
        lacks = {layer: set(shelf.lacks(list(by_digest), [layer])) for layer in layers}
        alike: dict[tuple[int, ...], list[Sequence[int]]] = {}
        for one, row in by_digest.items():
            if absent := tuple(layer for layer in layers if one in lacks[layer]):
                alike.setdefault(absent, []).append(row)
        return alike

    def _read(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> np.ndarray:
        """States (N, L, S) of all positions of these questions, by the source itself."""
        lm, parts_NLS = self.load(), []
        for start in range(0, len(rows), AT_ONCE):
            states_BTLS, mask_BT = lm.states(before, rows[start : start + AT_ONCE], layers)
            parts_NLS.append(_to_numpy(states_BTLS[mask_BT]))
        return np.concatenate(parts_NLS)

    def states(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States (B, T, L, S) of questions as the layers gave them, and their mask (B, T); see `FrozenLM.states`.

        What is on disk comes from there; the source reads the others alone.
        """
        key = _key(before, rows, layers)
        fetched = self._ahead.pop(key, None) or self._fetched(*key)
        lengths = list(map(len, rows))
        mask_BT = prefixes(lengths, max(lengths, default=0), self.device)
        states_BTLS = torch.zeros(*mask_BT.shape, len(layers), self.width, dtype=self.dtype, device=self.device)
        if fetched.there:
            place_N = sent(fetched.places(mask_BT.shape[1]), self.device)
            states_BTLS.flatten(0, 1).index_copy_(0, place_N, fetched.on_device().transpose(0, 1))
        if others := sorted(set(range(len(rows))) - set(fetched.there)):
            read, _ = self.load().states(before, [rows[row] for row in others], layers)
            states_BTLS[:, : read.shape[1]].index_copy_(0, sent(torch.tensor(others), self.device), read)
        return states_BTLS, mask_BT

    def ahead(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> None:
        """Fetch from disk what `states` will next be asked for, on another thread than who asks."""
        key = _key(before, rows, layers)
        self._ahead[key] = self._fetched(*key)
        for old in list(self._ahead)[:-AHEAD]:  # nobody came for it
            self._ahead.pop(old, None)

    def _fetched(self, before: tuple[int, ...], questions: tuple[str, ...], layers: tuple[int, ...]) -> Fetched:
        shelf = self.shelf(before)
        absent = set(shelf.lacks(questions, layers))
        there = [row for row, question in enumerate(questions) if question not in absent]
        found = self._by_several(lambda some: [shelf.read(questions[row], layers) for row in some], there)
        lengths = [len(one[0]) for one in found]
        on_gpu = self.device.type == "cuda"
        states_LNS = torch.empty(len(layers), sum(lengths), self.width, dtype=self.dtype, pin_memory=on_gpu)
        by_layer = list(zip(_to_numpy(states_LNS), zip(*found, strict=True), strict=False))  # none of no questions
        self._by_several(lambda some: [np.concatenate(one, out=room_NS) for room_NS, one in some], by_layer)
        if not on_gpu:
            return Fetched(there=there, lengths=lengths, states_LNS=states_LNS, copied=None)
        with torch.cuda.stream(self._beside):
            copy_LNS = states_LNS.to(self.device, non_blocking=True)
            return Fetched(there=there, lengths=lengths, states_LNS=copy_LNS, copied=self._beside.record_event())

    def _by_several(self, work: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
        """What is made of all items, in their order, by threads that each make a part: checksums and copies hold no lock."""
        size = -(-len(items) // READERS) or 1
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        return [one for part in self._readers.map(work, parts) for one in part]

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="states")

    @cached_property
    def _beside(self) -> torch.cuda.Stream:
        """Where states are copied to the device while it computes."""
        return torch.cuda.Stream(self.device)

    def hidden_states(
        self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The same at unit RMS; see `FrozenLM.hidden_states`."""
        states_BTLS, mask_BT = self.states(before, rows, layers)
        return unit_rms(states_BTLS), mask_BT

    def shelf(self, before: Sequence[int]) -> Shelf:
        """Where its states behind a prompt are kept: by what its files are, not by its name."""
        return self._shelves(tuple(before))

    def _shelf(self, before: tuple[int, ...]) -> Shelf:
        return self.kept.shelf(digest_of([self.weights, self.device.type, str(self.dtype), list(before)])[:32])


def _key(before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> Key:
    return tuple(before), tuple(map(digest, rows)), tuple(layers)


def _to_numpy(states: Tensor) -> np.ndarray:
    """The states themselves where they are on the CPU, a copy otherwise."""
    bits = BITS.get(states.dtype)
    return cast(np.ndarray, (states if bits is None else states.view(bits)).cpu().numpy())


Source = FrozenLM | KeptSource  # what is asked for states: the model itself, or what is kept of it
