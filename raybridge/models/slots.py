"""Rows in slots: keys and values of fixed room, written in place at each row's own length.

A token of every slot is then the same work at the same addresses, whatever the rows are. A GPU replays it as one graph, and a
row that has ended leaves its slot to one that waits. The queries of a group's heads are as well so many queries of one head.

Shapes: N slots that run, B rows that come in, T positions of a prompt, C positions of room, P of a shared prompt, D width,
H query heads, G KV heads, R = H / G, M = N R queries, E head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from raybridge.models.attention import attending, check_plain, tell_of
from raybridge.models.attention import attention as masked
from raybridge.models.frozen import FrozenLM
from raybridge.models.kernels import in_few
from raybridge.models.kv_cache import growing_cache
from raybridge.models.partial import HALF, bias_of, flash, joined
from raybridge.models.prefill import Prefix
from raybridge.models.rotary import rotating

NAME = "raybridge_slots"  # of the attention, among those that transformers knows; it makes no mask


class Seats:
    """How many slots there are, how many run, and how many positions each has."""

    def __init__(self, count: int, room: int, device: torch.device) -> None:
        self.count, self.room, self.device = count, room, device
        self.running = 0
        self.kept = [0] * count  # positions of each, as the host knows them
        self._numbers = torch.arange(count, device=device)
        self._lengths = torch.zeros(count, dtype=torch.long, device=device)

    @property
    def numbers(self) -> Tensor:
        """Of the slots that run (N)."""
        return self._numbers[: self.running]

    @property
    def lengths(self) -> Tensor:
        """Positions of the slots that run (N)."""
        return self._lengths[: self.running]

    @property
    def reach(self) -> int:
        """Positions that a token looks at, its own among them; on a GPU all that there is room for: a graph does not change."""
        return self.room if self.device.type == "cuda" else max(self.kept[: self.running], default=0) + 1

    def set(self, places: Sequence[int], lengths: Sequence[int]) -> None:
        """Say how many positions some slots have."""
        for place, length in zip(places, lengths, strict=True):
            self.kept[place] = length
        at, told = (torch.tensor(numbers, device=self.device, dtype=torch.long) for numbers in (places, lengths))
        self._lengths[at] = told

    def advance(self) -> None:
        """Every slot that runs has a position more."""
        self.lengths.add_(1)
        for place in range(self.running):
            self.kept[place] += 1


class SlotLayer(DynamicLayer):
    """The keys and values (slots, C, G, E) of one layer."""

    keys: Tensor
    values: Tensor

    def __init__(self, seats: Seats) -> None:
        super().__init__()
        self.seats = seats

    def fill(self, places_B: Tensor, keys_BGTE: Tensor, values_BGTE: Tensor) -> None:
        """Put the keys and values of prompts into slots."""
        self._make_room(keys_BGTE, values_BGTE)
        for kept, read_BGTE in ((self.keys, keys_BGTE), (self.values, values_BGTE)):
            kept[places_B, : read_BGTE.shape[2]] = read_BGTE.transpose(1, 2)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write a position (N, G, 1, E) of every slot that runs behind those that it has; returns all of them (N, G, T, E)."""
        self._make_room(key_states, value_states)
        seats = self.seats
        found = []
        for kept, new_NG1E in ((self.keys, key_states), (self.values, value_states)):
            kept.index_put_((seats.numbers, seats.lengths), new_NG1E.squeeze(2))
            found.append(kept[: seats.running, : seats.reach].transpose(1, 2))
        return found[0], found[1]

    def move(self, places: Tensor, to: Tensor) -> None:
        """Copy slots to others."""
        if self.is_initialized:  # prompts may be empty
            for kept in (self.keys, self.values):
                kept[to] = kept[places]

    def get_seq_length(self) -> int:
        """None that all rows share: they are told their positions."""
        return 0

    def _make_room(self, keys_BGTE: Tensor, values_BGTE: Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys_BGTE, values_BGTE)
            self.keys, self.values = (
                one.new_zeros(self.seats.count, self.seats.room, one.shape[1], one.shape[3]) for one in (keys_BGTE, values_BGTE)
            )


class Slots:
    """The rows of a model that are being completed, each behind a prefix that they share.

    count: of the slots; room: positions of each, its new tokens included.
    """

    def __init__(self, lm: FrozenLM, prefix: Prefix | None, *, count: int, room: int) -> None:
        tell_of(NAME, attention)
        self.lm, self.prefix = lm, prefix
        self.seats = Seats(count, room, lm.device)
        self.token = torch.zeros(count, dtype=torch.long, device=lm.device)
        self.cache = growing_cache(lm.model.config)
        self.cache.layers = [SlotLayer(self.seats) if isinstance(one, DynamicLayer) else one for one in self.cache.layers]

    def fill(self, places: Sequence[int], cache: DynamicCache, lengths: Sequence[int]) -> None:
        """Put prompts of these lengths, which a cache holds from its first column on, into slots."""
        at = torch.tensor(places, device=self.lm.device)
        for layer, read in zip(self.cache.layers, cache.layers, strict=True):
            if isinstance(layer, SlotLayer) and read.get_seq_length():
                layer.fill(at, read.keys, read.values)
        self.seats.set(places, lengths)

    def move(self, places: Sequence[int], to: Sequence[int]) -> None:
        """Put what is in some slots into others."""
        at, there = (torch.tensor(numbers, device=self.lm.device, dtype=torch.long) for numbers in (places, to))
        for layer in self.cache.layers:
            if isinstance(layer, SlotLayer):
                layer.move(at, there)
        self.token[there] = self.token[at]
        self.seats.set(to, [self.seats.kept[place] for place in places])

    def states(self, *, few: bool = False) -> Tensor:
        """Last states (N, D) behind the token of each slot that runs, whose position is then written.

        few: in fewer kernels, each of which costs the host more, for who records them.
        """
        lm, seats = self.lm, self.seats
        before = self.prefix.length if self.prefix else 0
        last = None if lm.positions is None else lm.positions - 1  # a row that has ended may run on for a few tokens
        with attending(lm.model, NAME), rotating(lm.body) if few else nullcontext():
            states_N1D: Tensor = lm.body(
                inputs_embeds=lm.embed(self.token[: seats.running, None]),
                position_ids=(seats.lengths[:, None] + before).clamp(max=last) if last else seats.lengths[:, None] + before,
                past_key_values=self.cache,
                use_cache=True,
                step=Step(seats=seats, lengths=(seats.lengths + 1).int(), prefix=self.prefix, few=few),
            ).last_hidden_state
        return states_N1D[:, 0]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the attention of every layer is told of one token of every slot.

    lengths: positions that each sees. few: see `Slots.states`.
    """

    seats: Seats
    lengths: Tensor
    prefix: Prefix | None
    few: bool = False
    _made: dict[Any, Tensor] = field(default_factory=dict)

    def bias(self, dtype: torch.dtype) -> Tensor:
        """What hides the positions (N, 1, 1, T) behind a row's end."""
        if dtype not in self._made:
            mask_NT = torch.arange(self.seats.reach, device=self.seats.device) < self.lengths.unsqueeze(1)
            self._made[dtype] = bias_of(mask_NT[:, None, None, :], dtype)
        return self._made[dtype]

    def bounds(self, sequences: int, size: int) -> Tensor:
        """Where so many sequences of one size begin, and where the last ends."""
        if (sequences, size) not in self._made:
            self._made[sequences, size] = torch.arange(sequences + 1, device=self.seats.device, dtype=torch.int32) * size
        return self._made[sequences, size]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    step: Step,
    scaling: float | None = None,
    **told: Any,
) -> tuple[Tensor, None]:
    """The attention of a transformers layer for a token of every slot: query (N, H, 1, E), key and value (N, G, T, E)."""
    assert attention_mask is None, "what a slot sees is told by its length"
    cache = None if step.prefix is None else step.prefix.cache
    if not takes_lengths(query, value):
        return masked(module, query, key, value, step.bias(query.dtype), scaling=scaling, prefix=cache, **told)
    check_plain(**told)
    layer = None if cache is None else cache.layers[module.layer_idx]
    shared = None if layer is None else (layer.keys, layer.values)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return by_lengths(query.squeeze(2), key, value, shared, step, scale=scale).unsqueeze(1), None


def takes_lengths(query: Tensor, value: Tensor) -> bool:
    """Whether flash attention takes these heads, which then is told each row's length and reads no further."""
    size = query.shape[-1]
    return query.device.type == "cuda" and query.dtype in HALF and value.shape[-1] == size and size % 8 == 0 and size <= 256


def by_lengths(
    q_NHE: Tensor, k_NGCE: Tensor, v_NGCE: Tensor, shared: tuple[Tensor, Tensor] | None, step: Step, *, scale: float
) -> Tensor:
    """Attention (N, H, E) of a token of every slot to its own positions and to those (1, G, P, E) that all share."""
    N, G, C, _ = k_NGCE.shape
    R = q_NHE.shape[1] // G
    q_MGE = q_NHE.unflatten(1, (G, R)).transpose(1, 2).flatten(0, 1)
    keys, values = (one.transpose(1, 2).flatten(0, 1) for one in (k_NGCE, v_NGCE))
    bounds = step.bounds(N, R), step.bounds(N, C)
    out_MGE, sum_GM = flash(q_MGE, keys, values, bounds, (R, C), causal=False, scale=scale, seqused_k=step.lengths)
    if shared is not None:
        P = shared[0].shape[2]
        keys, values = (one.squeeze(0).transpose(0, 1) for one in shared)
        bounds = step.bounds(1, N * R), step.bounds(1, P)
        shared_MGE, shared_GM = flash(q_MGE, keys, values, bounds, (N * R, P), causal=False, scale=scale)
        joining = in_few(joined, out_MGE.device, along=0) if step.few else joined
        out_MGE = joining(out_MGE, sum_GM.T, shared_MGE, shared_GM.T)
    return out_MGE.unflatten(0, (N, R)).transpose(1, 2).flatten(1, 2)
