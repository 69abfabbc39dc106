"""The layers of a frozen causal LM and its passes: padded or packed, with what is injected, keeping the states asked for.

Shapes: B batch, T positions, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from raybridge.models import attention, gated, layers, norms, packing, rotary
from raybridge.models.free import free_bytes
from raybridge.models.head import body_of
from raybridge.models.injection import injecting
from raybridge.models.lent import Lent
from raybridge.models.memory import UnpredictableError, activation_bytes
from raybridge.models.packing import Packing, UnpackableError, can_pack, within_window
from raybridge.models.pieces import Piece, pad
from raybridge.models.recording import Recorder, Shape
from raybridge.models.shape import attends_only, positions_of, window_of

log = logging.getLogger(__name__)
PACKING_SLACK = 0.1  # relative error of packed states: half precision alone makes 0.01


class Backbone:
    """A causal LM without its tokens: token embeddings or others go in, hidden states come out. Its weights never change."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self.body = body_of(self.model)
        self._recorder: Recorder | None = None
        if self.device.type == "cuda":
            norms.in_one(self.body)
        attention.tell()
        attention.tell_of(packing.NAME, packing.attention)

    @property
    def device(self) -> torch.device:
        """Where its passes begin and end: of several devices the first."""
        device: torch.device = self.model.device
        return device

    @cached_property
    def shares(self) -> dict[torch.device, float]:
        """The share of its layers that lies on each device, its own first."""
        places = [next(layer.parameters()).device for layer in self.layers]
        return {place: places.count(place) / self.depth for place in dict.fromkeys((self.device, *places))}

    @property
    def depth(self) -> int:
        """Number of layers; hidden states are numbered 0 (embeddings) to depth (after the last layer's norm)."""
        depth: int = self.model.config.get_text_config().num_hidden_layers
        return depth

    @cached_property
    def layers(self) -> nn.ModuleList:
        """Its layers: hidden state l enters layer l."""
        return layers.layers_of(self.body, self.depth)

    @cached_property
    def positions(self) -> int | None:
        """How many positions it has; None where there is no end to them."""
        return positions_of(self.model.config)

    def check_length(self, tokens: int, *, new: int = 0) -> None:
        """Refuse a prompt that with its new tokens is longer than the model's positions."""
        if self.positions is not None and tokens + new > self.positions:
            behind = f" and {new} new ones" if new else ""
            raise ValueError(f"model {self.name!r} has {self.positions} positions: {tokens} tokens{behind} are too many")

    @cached_property
    def attends_only(self) -> bool:
        """Whether every layer is attention; where one carries a state from token to token, a pad would be a step of it."""
        return attends_only(self.model.config)

    @cached_property
    def packs(self) -> bool:
        """Whether its passes take sequences one behind another instead of padding them.

        Seen on this model and device before it is relied on: a kernel that attends elsewhere would spoil every figure.
        """
        if not can_pack(self.model):
            return False
        rows = self.model.get_input_embeddings().weight.shape[0]
        spread = [(7919 * i) % rows for i in range(96)]
        try:
            error = self.packing_error([spread[:64], spread[64:]])
        except UnpackableError:
            return False
        if error > PACKING_SLACK:
            log.warning(
                "model %r: packed passes give other states than padded ones (relative error %.2f), so its batches are padded",
                self.name,
                error,
            )
        return error <= PACKING_SLACK

    @torch.no_grad()
    def packing_error(self, rows: Sequence[Sequence[int]], *, lent: Lent | None = None) -> float:
        """How far, relative to their norm, the last states of rows that are packed are from those of padded ones."""
        ids, mask = pad(rows, pad_id=0, side="right", device=self.device)
        with self._recorded_by(None):  # what is seen once is not recorded
            padded, packed = (
                self.passed({"input_ids": ids}, list(map(len, rows)), [self.depth], packed=how, lent=lent)[0][mask].float()
                for how in (False, True)
            )
        return ((packed - padded).norm() / padded.norm()).item()

    def fuse(self) -> None:
        """Compile the parts of its layers that see each position alone, MLPs above all: small kernels count in decoding.

        Whole layers would be compiled anew for every layer: each writes its own keys and values. A norm of one operation is one
        kernel already.
        """
        for layer in self.layers:
            for part in layer.children():
                if layers.positionwise(part) and not norms.is_one(part):
                    compiled(part)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Packed passes within it that are of like shape are recorded and replayed, on a GPU that holds the whole model.

        What is recorded keeps its memory to the end: it is for a thousand passes of the same few shapes.
        """
        able = self.device.type == "cuda" and len(self.shares) == 1
        window = window_of(self.model.config)
        recorder = Recorder(self._run_packed, recorded=self._run_in_few, window=window, finds_room=self._finds_room)
        with self._recorded_by(recorder if able else None):
            yield
        if able:
            log.info("of %d packed passes of %s %d were replayed", recorder.passes, self.name, recorder.replays)

    def forget(self) -> bool:
        """Give back the memory of what is recorded; whether there was any."""
        return self._recorder is not None and self._recorder.forget()

    def _finds_room(self, shape: Shape, times: int) -> int | None:
        """Bytes that a pass keeps for its way back, where so many times as many are free; all, where they cannot be told."""
        free = free_bytes(self.device)
        try:
            needed = activation_bytes(self.model.config, shape.positions, recomputed=False) if shape.gradient else 0
        except UnpredictableError:
            return free
        return int(needed) if times * needed < free else None

    @contextmanager
    def _recorded_by(self, recorder: Recorder | None) -> Iterator[None]:
        before, self._recorder = self._recorder, recorder
        try:
            yield
        finally:
            self._recorder = before

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Passes within it are of transformers' own operations, where this project has others for them, compiles or records."""
        with self._recorded_by(None), norms.as_written(self.body), torch.compiler.set_stance("force_eager"):
            yield

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Passes within it keep what enters their layers alone and compute the rest again in the backward pass."""
        self.forget()  # who computes again has no memory to keep anything in
        with self._recorded_by(None), layers.recomputing(self.model, self.layers):
            yield

    def grouped(self) -> AbstractContextManager[None]:
        """Passes within it repeat no keys and values for grouped heads, where the model's attention can be told so."""
        known = attention.takes_heads_grouped(self.model)
        return attention.attending(self.model, attention.NAME) if known else nullcontext()

    def injecting(self, injected: Mapping[int, Tensor]) -> AbstractContextManager[None]:
        """A pass within it adds these to the hidden states that enter the layers; the model itself stays as it is."""
        for number in injected:
            if not 0 <= number < self.depth:
                raise ValueError(
                    f"model {self.name!r} has no layer that reads hidden state {number}; valid are 0..{self.depth - 1}"
                )
        return injecting([(self.layers[number], addend_BTD) for number, addend_BTD in injected.items()])

    def passed(
        self,
        given: dict[str, Any],
        lengths: Sequence[int],
        wanted: Sequence[int],
        *,
        packed: bool,
        injected: Mapping[int, Tensor] | None = None,
        lent: Lent | None = None,
    ) -> list[Tensor]:
        """Hidden states (B, T, D) of one pass over ids or embeddings of rows so long; behind a row's end they say nothing.

        lent: what stands before every row, read before.
        """
        first = 0 if lent is None else len(lent)
        longest = max(lengths)
        self.check_length(first + longest)
        fits = packed and within_window(self.model, first + longest)
        rows = Packing.of(lengths, longest, self.device) if fits else None
        if lent is not None:
            lent.to(self.layers)
            given = given | {"lent": True, "position_ids": torch.arange(longest, device=self.device)[None] + first}
        if rows is not None:
            read = {name: rows.pack(given[name]) for name in ("input_ids", "inputs_embeds") if name in given}
            injected = {layer: rows.pack(addend) for layer, addend in (injected or {}).items()}
            given = given | read | {"position_ids": rows.positions_1N + first, **rows.arguments}
        if rows is None:
            return self._run(given, wanted, injected=injected or {})
        return [rows.unpack(one) for one in self._packed(given, wanted, injected or {}, lent)]

    def passed_row(self, row: Piece, told: Mapping[str, Any]) -> Tensor:
        """Last hidden states (1, N, D) of one pass over a row that is packed already. told: where what stands in it."""
        given = {"inputs_embeds": row.embeds_BTD, **told}
        (found,) = self._packed(given, [self.depth], row.injected, None)
        return found

    def _packed(
        self, given: Mapping[str, Any], wanted: Sequence[int], injected: Mapping[int, Tensor], lent: Lent | None
    ) -> list[Tensor]:
        if self._recorder is None or injected:
            return self._run(given, wanted, injected=injected, packed=True)
        return self._recorder.passed(given, wanted, lent=lent)

    def _run_packed(self, given: Mapping[str, Any], wanted: Sequence[int]) -> list[Tensor]:
        return self._run(given, wanted, injected={}, packed=True)

    def _run_in_few(self, given: Mapping[str, Any], wanted: Sequence[int]) -> list[Tensor]:
        """The same in fewer kernels, each of which costs the host more: who records them pays it once."""
        with rotary.rotating(self.body), gated.gating(self._gated):
            return self._run_packed(given, wanted)

    @cached_property
    def _gated(self) -> list[nn.Module]:
        return [part for part in self.body.modules() if gated.gates_alike(part)]

    def _run(
        self, given: Mapping[str, Any], wanted: Sequence[int], *, injected: Mapping[int, Tensor], packed: bool = False
    ) -> list[Tensor]:
        with (
            self.injecting(injected),
            layers.reading(self.layers, [layer for layer in wanted if layer != self.depth]) as states,
            attention.attending(self.model, packing.NAME) if packed else self.grouped(),
        ):
            states[self.depth] = self.body(**given, use_cache=False).last_hidden_state
        return [states[layer].to(self.device) for layer in wanted]


def compiled(part: nn.Module) -> None:
    """Compile a part of a model. Its backward pass may run once for each term, and so gives no buffers away."""
    torch._functorch.config.donated_buffer = False
    part.compile(dynamic=True)
