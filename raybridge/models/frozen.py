"""A frozen language model: read its hidden states, put soft tokens in front of text, score an answer.

Shapes: B batch, T positions of a piece, K soft tokens, L hidden layers read, S source width, D target width, A answer tokens.

A sequence is a list of pieces (`raybridge.models.pieces`). The real tokens of a row stand together from the first column on,
and a causal model never sees the pads behind them: windows and recurrences count columns, and there a column is a position.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raybridge.models.backbone import PACKING_SLACK, Backbone
from raybridge.models.embedding import Embedding
from raybridge.models.head import Head
from raybridge.models.kernels import in_few
from raybridge.models.lent import Lent
from raybridge.models.packing import within_window
from raybridge.models.parts import by_length, that_fit
from raybridge.models.pieces import Piece, join, pad, places, prefixes, sent, taken
from raybridge.models.shared_prefix import Row, Text, cues_apart, packed
from raybridge.models.vocabulary import per_row, token_nll

log = logging.getLogger(__name__)
States = tuple[Tensor, Tensor, Tensor]  # hidden states (B, A, D), the ids (B, A) that they predict, and their mask
SEEN = 128  # positions of what `shares_beginnings` sees
PASS = 256  # positions of a padded batch that take as long as starting one more pass does
POSITIONS = 16384  # of a pass that nothing is kept of but states: an 8B model takes 2 GiB for them, and no GPU more to be busy


def unit_rms(states: Tensor) -> Tensor:
    """States (..., S) at unit RMS each, in fp32, as translators read them."""
    return F.rms_norm(states.float(), states.shape[-1:])


class FrozenLM(Backbone):
    """A causal LM whose weights never change, with its tokenizer.

    source_alone: why its states can be read and no soft token put before it, where that is so. shares_prompts: whether rows
    attend to one copy of a prompt that they share; decodes_in_slots: whether a token of each is right at a place of its own.
    All are seen when it is loaded.
    """

    source_alone: str | None = None
    shares_prompts: bool = False
    decodes_in_slots: bool = False

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"model {name!r}: its tokenizer has no end token, so a completion could never end")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        super().__init__(name, model)
        self.tokenizer = tokenizer
        self.embedding = Embedding(self.model, self.body)
        self.head = Head(self.model, self.body)

    def check_target(self) -> None:
        """Refuse a model that can be a source alone."""
        if self.source_alone:
            raise ValueError(f"model {self.name!r} can be a source and no target: {self.source_alone}")

    @property
    def width(self) -> int:
        """Size of an embedding and of a hidden state."""
        return self.embedding.width

    @property
    def vocabulary(self) -> int:
        """Over how many tokens it makes logits."""
        return int(self.model.config.get_text_config().vocab_size)

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

    def text_piece(self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"] = "right") -> Piece:
        """A piece of token rows, one a sequence, padded on `side`."""
        ids, mask = self._padded(rows, side=side)
        return Piece(embeds_BTD=self.embed(ids), mask_BT=mask, counts=tuple(map(len, rows)))

    def soft_piece(self, soft_BKD: Tensor) -> Piece:
        """A piece of soft tokens in this model's embedding space."""
        self.check_target()
        B, K, D = soft_BKD.shape
        assert self.width == D, f"soft tokens of width {D} for {self.name} of width {self.width}"
        mask_BK = torch.ones(B, K, dtype=torch.bool, device=self.device)
        return Piece(embeds_BTD=soft_BKD.to(self.model.dtype), mask_BT=mask_BK, counts=(K,) * B)

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
        longest = max(map(len, rows), default=0)
        states_BTLS = torch.zeros(len(rows), longest, len(layers), self.width, dtype=self.model.dtype, device=self.device)
        for part in self._parts([len(before) + len(row) for row in rows]):
            read = [[*before, *rows[row]] for row in part]
            ids, _ = self._padded(read)
            place_C = sent(torch.tensor(part), self.device)
            for number, states in enumerate(self.passed({"input_ids": ids}, list(map(len, read)), layers, packed=self.packs)):
                here_BTS = states_BTLS[:, : ids.shape[1] - len(before), number]
                here_BTS.index_copy_(0, place_C, states[:, len(before) :])
        return states_BTLS, prefixes(list(map(len, rows)), longest, self.device)

    def _padded(self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"] = "right") -> tuple[Tensor, Tensor]:
        """Token rows as ids (B, T) and mask (B, T) on this model's device."""
        return pad(rows, pad_id=self.tokenizer.pad_token_id, side=side, device=self.device)

    def _parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """The rows of each pass: of like length where they are padded, and no more than it takes if no gradient is wanted."""
        alike = [list(range(len(lengths)))] if self.packs else by_length(lengths, start=PASS)
        if torch.is_grad_enabled():
            return alike
        return [[part[i] for i in few] for part in alike for few in that_fit([lengths[row] for row in part], free=POSITIONS)]

    def hidden_states(
        self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The `states` of rows at unit RMS each, in fp32, and the mask."""
        states_BTLS, mask_BT = self.states(before, rows, layers)
        return unit_rms(states_BTLS), mask_BT

    def ahead(self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]) -> None:
        """Nothing is fetched before `states` is asked for; of a source whose states are kept see `KeptSource`."""

    def continuation_states(
        self, pieces: Sequence[Piece], rows: Sequence[Sequence[int]], *, lent: Lent | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states (B, A, D) that predict the tokens of `rows` after the pieces, the ids (B, A) and their mask.

        lent: what stands before the pieces in every row, read before; see `models.lent`.
        """
        packed = self.packs and (lent is None or lent.packs)
        ids_BA, mask_BA = self._padded(rows)
        before = join(pieces)
        told = [number for number, row in enumerate(rows) if row]
        if not told:
            return before.embeds_BTD.new_zeros(*ids_BA.shape, self.width), ids_BA, mask_BA
        fronts = before.lengths
        assert all(fronts[row] for row in told), "the first token of a row is predicted from the one before it"
        parts = [[told[i] for i in part] for part in self._parts([fronts[row] + len(rows[row]) for row in told])]
        hidden = []
        for part in parts:
            asked = self.text_piece([rows[row] for row in part])
            longest = asked.mask_BT.shape[1]
            whole = join([before.rows(part), asked])
            read = {"inputs_embeds": whole.embeds_BTD}
            (states_CTD,) = self.passed(read, whole.lengths, [self.depth], packed=packed, injected=whole.injected, lent=lent)
            first_C1 = sent(torch.tensor([[fronts[row] - 1] for row in part]), self.device)
            place_CA = (first_C1 + torch.arange(longest, device=self.device)).clamp(max=states_CTD.shape[1] - 1)
            hidden.append(F.pad(taken(states_CTD, place_CA), (0, 0, 0, ids_BA.shape[1] - longest)))
        order = sent(torch.tensor([row for part in parts for row in part]), self.device)
        states_CAD = torch.cat(hidden)
        return states_CAD.new_zeros(*ids_BA.shape, self.width).index_copy(0, order, states_CAD), ids_BA, mask_BA

    def texts_states(self, pieces: Sequence[Piece], texts: Sequence[Text]) -> list[States]:
        """What `continuation_states` says of each of several texts that go on from the same pieces.

        Packed passes compute the pieces once for all of them, and also what all cues begin with.
        """
        return (self.shares_beginnings and self._behind_one(pieces, texts)) or self._behind_each(pieces, texts)

    def _behind_each(self, pieces: Sequence[Piece], texts: Sequence[Text]) -> list[States]:
        """Each text behind a beginning of its own, in one pass."""
        cues = self.text_piece([cue for cue, rows in texts for _ in rows], side="left")
        rows = [row for _, rows in texts for row in rows]
        found = self.continuation_states([*(piece.times(len(texts)) for piece in pieces), cues], rows)
        sizes = [len(rows) for _, rows in texts]
        parts = zip(*(states.split(sizes) for states in found), strict=True)
        longest = [max(map(len, rows)) for _, rows in texts]
        return [
            (hidden[:, :most], ids[:, :most], mask[:, :most]) for (hidden, ids, mask), most in zip(parts, longest, strict=True)
        ]

    def _behind_one(self, pieces: Sequence[Piece], texts: Sequence[Text]) -> list[States] | None:
        """The texts behind one beginning, in a packed row without their last tokens; None where that is too long."""
        begun, texts = cues_apart(texts)
        before = join([*pieces, self.text_piece([begun] * len(texts[0][1]))])
        following = [
            [[*cue, *rows[number][:-1]] if rows[number] else [] for cue, rows in texts] for number in range(len(before.mask_BT))
        ]
        row = Row.of(before.lengths, [[len(ids) for ids in some] for some in following], self.device)
        self.check_length(row.longest)
        if not row.lengths.any() or not within_window(self.model, row.longest):
            return None
        tokens = self.text_piece([[token for some in following for ids in some for token in ids]])
        asked = [self._padded(rows) for _, rows in texts]
        places = [row.before(i, len(cue), asked[i][0].shape[1]) for i, (cue, _) in enumerate(texts)]
        states_1ND = self.passed_row(join([packed(before), tokens]), row.arguments)
        hidden = [states_1ND[0].index_select(0, place_BA.flatten()).unflatten(0, place_BA.shape) for place_BA in places]
        return [(hidden_BAD, ids_BA, mask_BA) for hidden_BAD, (ids_BA, mask_BA) in zip(hidden, asked, strict=True)]

    @cached_property
    def shares_beginnings(self) -> bool:
        """Whether packed passes compute a beginning once for all texts that go on from it; seen, as `packs` is."""
        if not (self.packs and within_window(self.model, SEEN)):
            return False
        error = self._sharing_error()
        if error > PACKING_SLACK:
            log.warning(
                "model %r: texts behind one beginning have other states than behind their own (error %.2f), so none share",
                self.name,
                error,
            )
        return error <= PACKING_SLACK

    @torch.no_grad()
    def _sharing_error(self) -> float:
        """How far, relative to their norm, the states of texts behind one beginning are from those behind their own."""
        rows = self.model.get_input_embeddings().weight.shape[0]
        spread = [(7919 * i) % rows for i in range(160)]
        before = self.text_piece([spread[:40], spread[40:57]])
        texts = [(spread[57:60], [spread[60:90], spread[90:99]]), ([], [spread[99:117], spread[117:160]])]
        with self._recorded_by(None):  # what is seen once is not recorded
            shared, apart = (way([before], texts) or [] for way in (self._behind_one, self._behind_each))
        one, other = (torch.cat([hidden[mask].float() for hidden, _, mask in found]) for found in (shared, apart))
        return ((one - other).norm() / other.norm()).item()

    def states_nll(self, hidden_BAD: Tensor, ids_BA: Tensor, lengths: Sequence[int]) -> Tensor:
        """NLL (B, A) of rows of so many tokens from the states that predict them; zero behind a row's end."""
        nll_C = in_few(token_nll, self.device)
        real_N = places(lengths, ids_BA.shape[1], self.device)
        told = (tensor.flatten(0, 1).index_select(0, real_N) for tensor in (hidden_BAD, ids_BA))
        nll_N = per_row(lambda hidden_CD, ids_C: nll_C(self.head(hidden_CD), ids_C), *told, vocabulary=self.vocabulary)
        return nll_N.new_zeros(ids_BA.numel()).index_copy(0, real_N, nll_N).view(ids_BA.shape)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in fp32 from last hidden states."""
        return self.head(hidden).float()

    def answer_nll(self, pieces: Sequence[Piece], answer_rows: Sequence[Sequence[int]], *, lent: Lent | None = None) -> Tensor:
        """NLL (B, A) of each answer token after the pieces, and before them what is lent; zero beyond an answer's end."""
        hidden_BAD, ids_BA, _ = self.continuation_states(pieces, answer_rows, lent=lent)
        return self.states_nll(hidden_BAD, ids_BA, list(map(len, answer_rows)))
