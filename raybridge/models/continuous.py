"""Continuous batching (Orca, Yu et al. 2022): rows that have ended leave their slots to rows that wait.

Shapes: N slots that run, B rows that come in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raybridge.models.capacity import slots_that_fit
from raybridge.models.choice import Choice
from raybridge.models.completion import BLOCK, Limit
from raybridge.models.free import free_bytes, give_back_graphs
from raybridge.models.frozen import FrozenLM
from raybridge.models.graph import ROOM
from raybridge.models.pieces import Piece, fetched
from raybridge.models.prefill import Prefix, read_in_parts
from raybridge.models.replay import Replay
from raybridge.models.slots import Slots

MOST = 512  # slots: more tokens a second of an 8B model on 80 GB are not to be had
FREE = 4  # one in so many slots is free before rows come in, for they are read together


def complete(
    lm: FrozenLM,
    prompt: Piece,
    prefix: Prefix | None,
    rows: Sequence[int],
    choice: Callable[[Sequence[int]], Choice],
    limit: Limit,
) -> list[list[int]]:
    """The tokens that these rows of a prompt write, which may run on behind their end. choice: of rows that begin together."""
    lengths = prompt.lengths
    room = max(lengths[row] for row in rows) + limit.most + BLOCK
    give_back_graphs(lm.device, beyond=ROOM)
    fit = slots_that_fit(lm.model.config, room, free=free_bytes(lm.device), value_bytes=lm.model.dtype.itemsize)
    table = Table(lm, prompt, prefix, choice, limit, count=min(len(rows), fit, MOST), room=room)
    return table.completed(rows)


def looks_late(device: torch.device) -> bool:
    """Whether the host looks at a block while the device is at the first token of the next: a GPU need not wait for it."""
    return device.type == "cuda"


class Table:
    """Rows in slots, and those that wait. seated: which row is in each slot that runs; None where it has ended.

    begun: the first tokens of the next block, where they are on their way.
    """

    def __init__(
        self,
        lm: FrozenLM,
        prompt: Piece,
        prefix: Prefix | None,
        choice: Callable[[Sequence[int]], Choice],
        limit: Limit,
        *,
        count: int,
        room: int,
    ) -> None:
        self.lm, self.prompt, self.prefix, self.choice, self.limit = lm, prompt, prefix, choice, limit
        self.slots = Slots(lm, prefix, count=count, room=room)
        self.replay = Replay(self.slots, captures=limit.most > BLOCK)
        self.seated: list[int | None] = []
        self.begun: Tensor | None = None
        self.written: dict[int, list[int]] = {}

    def completed(self, rows: Sequence[int]) -> list[list[int]]:
        """What each of the rows writes."""
        lengths = self.prompt.lengths
        waiting = deque(sorted(rows, key=lambda row: lengths[row], reverse=True))
        while waiting or not self._nobody:
            if waiting and self._takes_rows():
                self._seat(waiting)
            elif not waiting:
                self._close_ranks()
            self._write(late=not waiting and looks_late(self.lm.device))
        return [self.written[row] for row in rows]

    @property
    def _nobody(self) -> bool:
        """Whether no slot has a row."""
        return all(row is None for row in self.seated)

    @property
    def _free(self) -> list[int]:
        """Slots without a row."""
        return [i for i in range(self.slots.seats.count) if i >= len(self.seated) or self.seated[i] is None]

    def _takes_rows(self) -> bool:
        """Whether rows come in now. What hardens a row counts its tokens, so such rows begin and end together."""
        return self._nobody or (self.choose.hardening.plain and len(self._free) * FREE >= self.slots.seats.count)

    def _seat(self, waiting: deque[int]) -> None:
        """Read the prompts of rows that wait into free slots, and write their first tokens."""
        if self._nobody:
            self.seated = []
        self.seated += [None] * min(self.slots.seats.count - len(self.seated), len(waiting))
        empty = [place for place, row in enumerate(self.seated) if row is None]
        coming = [waiting.popleft() for _ in empty[: len(waiting)]]
        places, left_over = empty[: len(coming)], empty[len(coming) :]
        self.slots.seats.running = len(self.seated)
        if left_over:  # such a slot runs on, and may have run for long: it begins anew, or it would leave its room
            self.slots.seats.set(left_over, [0] * len(left_over))
        self.choose = self.choice(coming)
        some = self.prompt.rows(coming)
        last_BD = some.embeds_BTD.new_zeros(len(coming), self.lm.width)
        for part, cache, last_CD in read_in_parts(self.lm, some, self.prefix):
            self.slots.fill([places[i] for i in part], cache, [self.prompt.lengths[coming[i]] for i in part])
            last_BD[part] = last_CD
        token_B = self.choose.tokens(self.lm.head(last_BD))
        self.slots.token[torch.tensor(places, device=self.lm.device)] = token_B
        self.replay.prepare()
        for place, row, token in zip(places, coming, token_B.tolist(), strict=True):
            self.seated[place], self.written[row] = row, [token]
        self._let_go(new=1)

    def _write(self, *, late: bool) -> None:
        """A block of tokens of every slot that runs, and a look at them. late: while the next block begins: no row comes in."""
        left = self.limit.most - min(
            (len(self.written[row]) for row in self.seated if row is not None), default=self.limit.most
        )
        steps = min(BLOCK, left)
        if not steps:
            return
        block = [self._token() if self.begun is None else self.begun, *(self._token() for _ in range(steps - 1))]
        look = fetched(torch.stack(block, dim=1))
        self.begun = self._token() if late and left > steps else None
        for row, tokens in zip(self.seated, look().tolist(), strict=True):
            if row is not None:
                self.written[row] += tokens
        self._let_go(new=steps)

    def _token(self) -> Tensor:
        """A token (N) of every slot that runs."""
        token_N = self.choose.tokens(self.replay.logits())
        self.slots.token[: len(self.seated)] = token_N
        return token_N

    def _let_go(self, *, new: int) -> None:
        """Free the slots of rows that have ended."""
        over = [
            place
            for place, row in enumerate(self.seated)
            if row is not None and self.limit.reached(self.lm, self.written[row], new=new)
        ]
        for place in over:
            self.seated[place] = None
        if over:
            self.slots.seats.set(over, [0] * len(over))

    def _close_ranks(self) -> None:
        """Run fewer slots where fewer are left: on a GPU half of them, for each number has a graph of its own."""
        live = [place for place, row in enumerate(self.seated) if row is not None]
        size = len(self.seated)
        while self.replay.captures and len(live) <= size // 2:
            size //= 2
        size = size if self.replay.captures else len(live)
        if not live or size == len(self.seated):
            return
        free = [place for place in range(size) if self.seated[place] is None]
        movers = [place for place in live if place >= size]
        to = free[: len(movers)]
        self.slots.move(movers, to)
        order = list(range(size))
        for place, there in zip(movers, to, strict=True):
            self.seated[there], order[there] = self.seated[place], place
        self.seated = self.seated[:size]
        self.slots.seats.running = size
        kept = torch.tensor(order, device=self.lm.device)
        if self.begun is not None:
            self.begun = self.begun[kept]
        self.choose.keep(kept)
