"""A frozen source whose states of questions are kept on disk: it is in memory only while something is not there.

What is kept is what its layers gave, in its own precision: brought to unit RMS when it is read, as when it is computed.

Shapes: B questions, T positions, L layers, S source width, N positions of all questions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from raybridge.models import names
from raybridge.models.frozen import FrozenLM, unit_rms
from raybridge.models.identity import digest as digest_of
from raybridge.models.identity import model_identity
from raybridge.models.lm import precision
from raybridge.results.states import Shelf, States, digest

AT_ONCE = 32  # questions whose states leave the device together
BITS = {torch.bfloat16: torch.int16}  # NumPy has no bf16: its bits are kept

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Questions (token rows) that a source reads behind one prompt, and the layers that are wanted of them."""

    source: str
    before: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]


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

    def keep(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> None:
        """Read what is not on disk and put it there; nothing where that would be more than the budget."""
        rows = self.lacking(before, rows, layers)
        if not rows or not self.kept.take(self.bytes(sum(map(len, rows)), layers)):
            return
        shelf, told = self.shelf(before), {digest(row): len(row) for row in rows}
        missing = [layer for layer in layers if shelf.lacks(list(told), [layer])]
        lm = self.load()
        parts_NLS = []
        for start in range(0, len(rows), AT_ONCE):
            states_BTLS, mask_BT = lm.states(before, rows[start : start + AT_ONCE], missing)
            parts_NLS.append(_to_numpy(states_BTLS[mask_BT]))
        states_NLS = np.concatenate(parts_NLS)
        shelf.write(told, {layer: np.ascontiguousarray(states_NLS[:, i]) for i, layer in enumerate(missing)})

    def states(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States (B, T, L, S) of questions as the layers gave them, and their mask (B, T); see `FrozenLM.states`."""
        shelf, questions = self.shelf(before), [digest(row) for row in rows]
        if shelf.lacks(questions, layers):
            return self.load().states(before, rows, layers)
        found = [np.stack([shelf.read(question, layer) for layer in layers], axis=1) for question in questions]
        states_BTLS = pad_sequence([torch.from_numpy(states_TLS) for states_TLS in found], batch_first=True)
        lengths_B = torch.tensor([len(row) for row in rows])
        mask_BT = torch.arange(states_BTLS.shape[1]) < lengths_B.unsqueeze(1)
        return states_BTLS.view(self.dtype).to(self.device), mask_BT.to(self.device)

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


def _to_numpy(states: Tensor) -> np.ndarray:
    bits = BITS.get(states.dtype)
    return cast(np.ndarray, (states if bits is None else states.view(bits)).cpu().numpy())


Source = FrozenLM | KeptSource  # what is asked for states: the model itself, or what is kept of it
