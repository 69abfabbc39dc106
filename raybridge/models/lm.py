"""A frozen language model: load it, read its hidden states, put soft tokens in front of text, score an answer.

Shapes: B batch, T positions of a piece, K soft tokens, L hidden layers read, S source width, D target width, A answer tokens.

A sequence is a list of pieces (raybridge.pieces).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from raybridge.models import byte_lm, gguf, names
from raybridge.models.packing import Packing, can_pack, packed_attention, within_window
from raybridge.models.pieces import Piece, by_length, join, pad, positions

log = logging.getLogger(__name__)
CHUNK = 4096  # answer tokens whose logits exist at one time
PACKING_SLACK = 0.1  # relative error of packed states: half precision alone makes 0.01
PASS = 256  # positions of a padded batch that take as long as starting one more pass does


def in_chunks(function: Callable[..., Tensor], *rows: Tensor, size: int) -> Tensor:
    """A function of rows (N), `size` of them at a time; each chunk is computed again in the backward pass.

    Logits over a vocabulary of 100,000 are the largest tensor of a step: they are made a chunk at a time and never kept.
    """
    if len(rows[0]) <= size:
        return function(*rows)
    chunks = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return torch.cat([checkpoint(function, *chunk, use_reentrant=False) for chunk in chunks])


def begins_with_bos(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a BOS in front of text by itself."""
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


class FrozenLM:
    """A causal LM whose weights never change, with its tokenizer."""

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"model {name!r}: its tokenizer has no end token, so a completion could never end")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.name, self.tokenizer = name, tokenizer
        self.model = model.eval().requires_grad_(False)
        self.compiled = False

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def width(self) -> int:
        """Size of an embedding and of a hidden state."""
        return self.model.get_input_embeddings().weight.shape[1]

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
        error = self._packing_error()
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
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        spread = [(7919 * i) % vocabulary for i in range(96)]
        whole = self.text_piece([spread[:64], spread[64:]])
        padded, packed = (
            self._states(whole, [self.depth], packed=packed)[0][whole.mask_BT].float() for packed in (False, True)
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

    @cached_property
    def embedding_rms(self) -> float:
        """Median RMS of the embeddings as the first layer receives them (Gemma scales them on the way)."""
        rows = torch.arange(self.model.get_input_embeddings().weight.shape[0], device=self.device)
        return torch.cat([self.embed(part).float().pow(2).mean(-1).sqrt() for part in rows.split(16384)]).median().item()

    @cached_property
    def adds_bos(self) -> bool:
        """Whether this tokenizer puts a BOS in front of text by itself."""
        return begins_with_bos(self.tokenizer)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of text, no special tokens added."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def text(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of ids, scaled as the model scales them."""
        return self.model.get_input_embeddings()(ids)

    def text_piece(self, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"] = "right") -> Piece:
        """A piece of token rows, one a sequence, padded on `side`."""
        ids, mask = pad(rows, pad_id=self.tokenizer.pad_token_id, side=side, device=self.device)
        return Piece(embeds_BTD=self.embed(ids), mask_BT=mask)

    def soft_piece(self, soft_BKD: Tensor) -> Piece:
        """A piece of soft tokens in this model's embedding space."""
        B, K, D = soft_BKD.shape
        assert self.width == D, f"soft tokens of width {D} for {self.name} of width {self.width}"
        return Piece(embeds_BTD=soft_BKD.to(self.model.dtype), mask_BT=torch.ones(B, K, dtype=torch.bool, device=self.device))

    @torch.no_grad()
    def hidden_states(
        self, before: Sequence[int], rows: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """States of `rows`, read after the shared tokens `before`: (B, T, L, S) at unit RMS each, and the mask (B, T).

        Position 0 carries massive activations in many models (Sun et al. 2024, arXiv:2402.17762), so it must lie in `before`.
        """
        if not before:
            raise ValueError(
                f"model {self.name!r}: hidden states need a token before the question, and its prompt starts with none"
            )
        for layer in layers:
            if not 0 <= layer <= self.depth:
                raise ValueError(f"model {self.name!r} has hidden states 0..{self.depth}, not {layer}")
        whole = self.text_piece([[*before, *row] for row in rows])
        states_BTLS = torch.stack(
            [states[:, len(before) :] for states in self._states(whole, layers, packed=self.packs)], dim=2
        ).float()
        return F.rms_norm(states_BTLS, states_BTLS.shape[-1:]), whole.mask_BT[:, len(before) :]

    def continuation_states(self, pieces: Sequence[Piece], rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states (B, A, D) that predict the tokens of `rows` after the pieces, the ids (B, A) and their mask.

        The last column of the last piece must be real in every row: the first token is predicted from it.
        """
        ids_BA, mask_BA = pad(rows, pad_id=self.tokenizer.pad_token_id, side="right", device=self.device)
        before = join(pieces)
        told = [number for number, row in enumerate(rows) if row]
        lengths = [len(rows[number]) for number in told]
        parts = [list(range(len(told)))] if self.packs else by_length(lengths, fixed=before.mask_BT.shape[1], start=PASS)
        parts = [[told[i] for i in part] for part in parts]
        if not told:
            return before.embeds_BTD.new_zeros(*ids_BA.shape, self.width), ids_BA, mask_BA
        hidden = []
        for part in parts:
            longest = max(len(rows[row]) for row in part)
            piece = Piece(embeds_BTD=self.embed(ids_BA[part, :longest]), mask_BT=mask_BA[part, :longest])
            (states_CTD,) = self._states(join([before.rows(part), piece]), [self.depth], packed=self.packs)
            hidden.append(F.pad(states_CTD[:, -longest - 1 : -1], (0, 0, 0, ids_BA.shape[1] - longest)))
        order = torch.tensor([row for part in parts for row in part], device=self.device)
        states_CAD = torch.cat(hidden)
        return states_CAD.new_zeros(*ids_BA.shape, self.width).index_copy(0, order, states_CAD), ids_BA, mask_BA

    def _states(self, whole: Piece, layers: Sequence[int], *, packed: bool) -> list[Tensor]:
        """Hidden states (B, T, D) of these numbers after whole sequences."""
        embeds, places, injected = whole.embeds_BTD, positions(whole.mask_BT), whole.injected
        packing = Packing.of(whole.mask_BT) if packed else None
        if packing is not None and not within_window(self.model, packing):
            packing = None
        if packing is not None:
            embeds, places = packing.pack(embeds), packing.pack(places)
            injected = {layer: packing.pack(addend) for layer, addend in injected.items()}
        with self.injecting(injected), packed_attention(self.model) if packing else nullcontext():
            output = self.model.base_model(
                inputs_embeds=embeds,
                position_ids=places,
                output_hidden_states=list(layers) != [self.depth],
                use_cache=False,
                **(packing.arguments if packing else {"attention_mask": whole.mask_BT}),
            )
        states = [output.last_hidden_state if layer == self.depth else output.hidden_states[layer] for layer in layers]
        return [packing.unpack(row) for row in states] if packing else states

    @contextmanager
    def injecting(self, injected: Mapping[int, Tensor]) -> Iterator[None]:
        """A pass within it adds these to the hidden states that enter the layers; the model itself stays as it is."""
        layers = getattr(self.model.get_decoder(), "layers", ()) if injected else ()
        with ExitStack() as hooks:
            for number, addend_BTD in injected.items():
                if not 0 <= number < len(layers):
                    raise ValueError(
                        f"model {self.name!r} has no layer that reads hidden state {number}; valid are 0..{len(layers) - 1}"
                    )
                hooks.enter_context(layers[number].register_forward_pre_hook(_adding(addend_BTD)))
            yield

    def states_nll(self, hidden_BAD: Tensor, ids_BA: Tensor, mask_BA: Tensor) -> Tensor:
        """NLL (B, A) of tokens from the states that predict them; zero where the mask is."""

        def nll(hidden_CD: Tensor, ids_C: Tensor) -> Tensor:
            return F.cross_entropy(self.logits(hidden_CD), ids_C, reduction="none")

        nll_N = in_chunks(nll, hidden_BAD[mask_BA], ids_BA[mask_BA], size=CHUNK)
        return torch.zeros(ids_BA.shape, device=self.device).masked_scatter(mask_BA, nll_N)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in fp32 from last hidden states."""
        logits: Tensor = self.model.get_output_embeddings()(hidden).float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    @property
    def softcap(self) -> float | None:
        """Where the model bounds its logits by a tanh, the bound."""
        return getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)

    def answer_nll(self, pieces: Sequence[Piece], answer_rows: Sequence[Sequence[int]]) -> Tensor:
        """NLL (B, A) of each answer token after the pieces; zero beyond an answer's end.

        The last column of the last piece must be real in every row: the first answer token is predicted from it.
        """
        return self.states_nll(*self.continuation_states(pieces, answer_rows))


def _adding(addend_BTD: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that adds to a layer's input, in units of the input's RMS at each position."""

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTD = args[0].float()
        rms_BT1 = (hidden_BTD.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return (hidden_BTD + rms_BT1 * addend_BTD).to(args[0].dtype), *args[1:]

    return hook


def load(name: str, *, device: torch.device | str, dtype: torch.dtype | None = None) -> FrozenLM:
    """Load a model by hub id, directory, GGUF file or `pocket:` name; fp32 on CPU and bf16 on GPUs unless told.

    `bytes` is a source that reads UTF-8 (see `byte_lm`).
    """
    device = torch.device(device)
    if name == byte_lm.NAME:
        return FrozenLM(name, byte_lm.model().to(device), byte_lm.tokenizer())
    names.check(name)
    where = names.place(name)
    place, options = gguf.place_and_options(where)
    # cuDNN plans each new shape of attention anew, milliseconds a call, and batches of text have a new shape at every step.
    torch.backends.cuda.enable_cudnn_sdp(False)
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    if options and not begins_with_bos(tokenizer):
        gguf.check_asks_for_no_bos(name, tokenizer, where)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **options, **gguf.unpacked(options))
    return FrozenLM(name, model.to(device), tokenizer)
