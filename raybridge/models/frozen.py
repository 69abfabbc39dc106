"""A frozen language model: read its hidden states, put soft tokens in front of text, score an answer.

Shapes: B batch, T positions of a piece, K soft tokens, L hidden layers read, S source width, D target width, A answer tokens.

A sequence is a list of pieces (`raybridge.models.pieces`). The real tokens of a row stand together from the first column on,
and a causal model never sees the pads behind them: windows and recurrences count columns, and there a column is a position.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.models.embedding import Embedding
from raybridge.models.head import Head, body_of, in_chunks
from raybridge.models.injection import injecting
from raybridge.models.packing import Packing, UnpackableError, can_pack, packed_attention, within_window
from raybridge.models.pieces import Piece, by_length, join, pad, positions, taken
from raybridge.models.shape import attends_only, positions_of

log = logging.getLogger(__name__)
CHUNK = 4096  # answer tokens whose logits exist at one time
PACKING_SLACK = 0.1  # relative error of packed states: half precision alone makes 0.01
PASS = 256  # positions of a padded batch that take as long as starting one more pass does


def unit_rms(states: Tensor) -> Tensor:
    """States (..., S) at unit RMS each, in fp32, as translators read them."""
    return F.rms_norm(states.float(), states.shape[-1:])


class FrozenLM:
    """A causal LM whose weights never change, with its tokenizer.

    source_alone: why its states can be read and no soft token put before it, where that is so; seen when it is loaded.
    """

    source_alone: str | None = None

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"model {name!r}: its tokenizer has no end token, so a completion could never end")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.name, self.tokenizer = name, tokenizer
        self.model = model.eval().requires_grad_(False)
        self.body = body_of(self.model)
        self.embedding = Embedding(self.model, self.body)
        self.head = Head(self.model, self.body)
        self.compiled = False

    def check_target(self) -> None:
        """Refuse a model that can be a source alone."""
        if self.source_alone:
            raise ValueError(f"model {self.name!r} can be a source and no target: {self.source_alone}")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def width(self) -> int:
        """Size of an embedding and of a hidden state."""
        return self.embedding.width

    @property
    def depth(self) -> int:
        """Number of layers; hidden states are numbered 0 (embeddings) to depth (after the last layer's norm)."""
        return self.model.config.get_text_config().num_hidden_layers

    @cached_property
    def packs(self) -> bool:
        """Whether its passes take sequences one behind another instead of padding them.

        Seen on this model and device before it is relied on: a kernel that attends elsewhere would spoil every figure.
        """
        if not can_pack(self.model):
            return False
        try:
            error = self._packing_error()
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
    def _packing_error(self) -> float:
        """How far, relative to their norm, the last states of packed sequences are from those of padded ones."""
        spread = [(7919 * i) % self.embedding.rows for i in range(96)]
        ids, mask = pad([spread[:64], spread[64:]], pad_id=self.tokenizer.pad_token_id, side="right", device=self.device)
        padded, packed = (
            self._passed({"input_ids": ids}, mask, [self.depth], packed=packed)[0][mask].float() for packed in (False, True)
        )
        return ((packed - padded).norm() / padded.norm()).item()

    def compile(self) -> None:
        """Compile its layers: half a minute at the first passes, less for each after. For training, not for decoding."""
        if self.compiled:
            return
        # A backward pass may run once for each term: it must not give its buffers away.
        torch._functorch.config.donated_buffer = False
        for layer in self.model.get_decoder().layers:
            layer.compile(dynamic=True)
        self.compiled = True

    def uncompiled(self) -> AbstractContextManager[None]:
        """Passes within it run without compiled code: a cache of another length at every token would compile it anew."""
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    @property
    def revision(self) -> str | None:
        """The commit on the hub, where the model came from one."""
        return getattr(self.model.config, "_commit_hash", None)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends a completion."""
        configured = self.model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return frozenset([self.tokenizer.eos_token_id, *(i for i in listed if i is not None)])

    @property
    def embedding_rms(self) -> float:
        """Median RMS of the embeddings as the first layer receives them (Gemma scales them on the way)."""
        return self.embedding.rms

    def tokenize(self, text: str) -> list[int]:
        """Token ids of text, no special tokens added."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def text(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of ids, scaled as the model scales them."""
        return self.embedding(ids)

    @cached_property
    def positions(self) -> int | None:
        """How many positions it has; None where there is no end to them."""
        return positions_of(self.model.config)

    def check_length(self, tokens: int, *, new: int = 0) -> None:
        """Refuse a prompt that with its new tokens is longer than the model's positions."""
        if self.positions is not None and tokens + new > self.positions:
            behind = f" and {new} new ones" if new else ""
            raise ValueError(f"model {self.name!r} has {self.positions} positions: {tokens} tokens{behind} are too many")

    def text_piece(self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"] = "right") -> Piece:
        """A piece of token rows, one a sequence, padded on `side`."""
        ids, mask = pad(rows, pad_id=self.tokenizer.pad_token_id, side=side, device=self.device)
        return Piece(embeds_BTD=self.embed(ids), mask_BT=mask)

    def soft_piece(self, soft_BKD: Tensor) -> Piece:
        """A piece of soft tokens in this model's embedding space."""
        self.check_target()
        B, K, D = soft_BKD.shape
        assert self.width == D, f"soft tokens of width {D} for {self.name} of width {self.width}"
        return Piece(embeds_BTD=soft_BKD.to(self.model.dtype), mask_BT=torch.ones(B, K, dtype=torch.bool, device=self.device))

    @torch.no_grad()
    def states(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States of `rows`, read after the shared tokens `before`: (B, T, L, S) as the layers gave them, and the mask (B, T).

        Position 0 carries massive activations in many models (Sun et al. 2024, arXiv:2402.17762), so it must lie in `before`.
        """
        if not before:
            raise ValueError(
                f"model {self.name!r}: hidden states need a token before the question, and its prompt starts with none"
            )
        for layer in layers:
            if not 0 <= layer <= self.depth:
                raise ValueError(f"model {self.name!r} has hidden states 0..{self.depth}, not {layer}")
        ids_BT, mask_BT = pad(
            [[*before, *row] for row in rows], pad_id=self.tokenizer.pad_token_id, side="right", device=self.device
        )
        states_BTLS = torch.stack(
            [states[:, len(before) :] for states in self._passed({"input_ids": ids_BT}, mask_BT, layers, packed=self.packs)],
            dim=2,
        )
        return states_BTLS, mask_BT[:, len(before) :]

    def hidden_states(
        self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The `states` of rows at unit RMS each, in fp32, and the mask."""
        states_BTLS, mask_BT = self.states(before, rows, layers)
        return unit_rms(states_BTLS), mask_BT

    def continuation_states(self, pieces: Sequence[Piece], rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states (B, A, D) that predict the tokens of `rows` after the pieces, the ids (B, A) and their mask."""
        ids_BA, mask_BA = pad(rows, pad_id=self.tokenizer.pad_token_id, side="right", device=self.device)
        before = join(pieces)
        told = [number for number, row in enumerate(rows) if row]
        if not told:
            return before.embeds_BTD.new_zeros(*ids_BA.shape, self.width), ids_BA, mask_BA
        fronts = before.lengths
        assert all(fronts[row] for row in told), "the first token of a row is predicted from the one before it"
        lengths = [fronts[row] + len(rows[row]) for row in told]
        parts = [list(range(len(told)))] if self.packs else by_length(lengths, start=PASS)
        parts = [[told[i] for i in part] for part in parts]
        hidden = []
        for part in parts:
            longest = max(len(rows[row]) for row in part)
            piece = Piece(embeds_BTD=self.embed(ids_BA[part, :longest]), mask_BT=mask_BA[part, :longest])
            whole = join([before.rows(part), piece])
            (states_CTD,) = self._passed(
                {"inputs_embeds": whole.embeds_BTD}, whole.mask_BT, [self.depth], packed=self.packs, injected=whole.injected
            )
            first_C1 = torch.tensor([[fronts[row] - 1] for row in part], device=self.device)
            place_CA = (first_C1 + torch.arange(longest, device=self.device)).clamp(max=states_CTD.shape[1] - 1)
            hidden.append(F.pad(taken(states_CTD, place_CA), (0, 0, 0, ids_BA.shape[1] - longest)))
        order = torch.tensor([row for part in parts for row in part], device=self.device)
        states_CAD = torch.cat(hidden)
        return states_CAD.new_zeros(*ids_BA.shape, self.width).index_copy(0, order, states_CAD), ids_BA, mask_BA

    def _passed(
        self,
        given: dict[str, Tensor],
        mask_BT: Tensor,
        layers: Sequence[int],
        *,
        packed: bool,
        injected: Mapping[int, Tensor] | None = None,
    ) -> list[Tensor]:
        """Hidden states (B, T, D) of one pass over ids or embeddings; behind a row's end they say nothing."""
        self.check_length(mask_BT.shape[1])
        packing = Packing.of(mask_BT) if packed else None
        if packing is not None and not within_window(self.model, packing):
            packing = None
        if packing is not None:
            given = {name: packing.pack(values) for name, values in given.items()}
            injected = {layer: packing.pack(addend) for layer, addend in (injected or {}).items()}
            given |= {"position_ids": packing.pack(positions(mask_BT)), **packing.arguments}
        with self.injecting(injected or {}), packed_attention(self.model) if packing else nullcontext():
            output = self.body(**given, output_hidden_states=list(layers) != [self.depth], use_cache=False)
        states = [output.last_hidden_state if layer == self.depth else output.hidden_states[layer] for layer in layers]
        return [packing.unpack(row) for row in states] if packing else states

    @cached_property
    def attends_only(self) -> bool:
        """Whether every layer is attention; where one carries a state from token to token, a pad would be a step of it."""
        return attends_only(self.model.config)

    def injecting(self, injected: Mapping[int, Tensor]) -> AbstractContextManager[None]:
        """A pass within it adds these to the hidden states that enter the layers; the model itself stays as it is."""
        layers = getattr(self.model.get_decoder(), "layers", ()) if injected else ()
        for number in injected:
            if not 0 <= number < len(layers):
                raise ValueError(
                    f"model {self.name!r} has no layer that reads hidden state {number}; valid are 0..{len(layers) - 1}"
                )
        return injecting([(layers[number], addend_BTD) for number, addend_BTD in injected.items()])

    def states_nll(self, hidden_BAD: Tensor, ids_BA: Tensor, mask_BA: Tensor) -> Tensor:
        """NLL (B, A) of tokens from the states that predict them; zero where the mask is."""

        def nll(hidden_CD: Tensor, ids_C: Tensor) -> Tensor:
            return F.cross_entropy(self.logits(hidden_CD), ids_C, reduction="none")

        nll_N = in_chunks(nll, hidden_BAD[mask_BA], ids_BA[mask_BA], size=CHUNK)
        return torch.zeros(ids_BA.shape, device=self.device).masked_scatter(mask_BA, nll_N)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in fp32 from last hidden states."""
        return self.head(hidden).float()

    def answer_nll(self, pieces: Sequence[Piece], answer_rows: Sequence[Sequence[int]]) -> Tensor:
        """NLL (B, A) of each answer token after the pieces; zero beyond an answer's end."""
        return self.states_nll(*self.continuation_states(pieces, answer_rows))
