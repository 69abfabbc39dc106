"""What a model does on a few tokens, seen once when it is loaded: it is understood, understood as a source alone, or refused.

An architecture is not looked up by its name: every way in which a model is read here is held to the model's own forward pass.

Shapes: T tokens, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.models.prefill import Prefix, can_share, prefilled, read_in_parts
from raybridge.models.slots import Slots

log = logging.getLogger(__name__)
TOKENS = 16
SLACK = {torch.float32: 1e-3}  # relative error of states that are the same; half precision makes a hundredth
HALF_SLACK = 0.1


@torch.no_grad()
def seen(lm: FrozenLM) -> FrozenLM:
    """The model, if it is understood. One that can be a source and no target says so (`FrozenLM.source_alone`)."""
    check_tokens(lm)
    check_weights(lm)
    ids = _ids(lm)
    own = _own(lm, ids)
    if not _alike(lm, own.logits, lm.logits(own.last)):
        raise ValueError(f"{_who(lm)}: its logits are not those that its head makes of its last hidden states")
    half = TOKENS // 2
    if not _alike(lm, lm.body(input_ids=ids[:, :half], use_cache=False).last_hidden_state, own.last[:, :half]):
        raise ValueError(f"{_who(lm)}: its states depend on the tokens that follow; only causal models can be read")
    lm.source_alone = _source_alone(lm, ids, own.last)
    lm.shares_prompts = not lm.source_alone and can_share(lm) and _shares(lm, ids, own.last)
    # A graph is of one device, and so is what slots are told.
    lm.decodes_in_slots = lm.shares_prompts and len(lm.shares) == 1 and _in_slots(lm, ids, own.last)
    return lm


def check_tokens(lm: FrozenLM) -> None:
    """Refuse a tokenizer with tokens that the model has no embedding for, if text or a prompt can hold them."""
    rows, tokenizer = lm.embedding.rows, lm.tokenizer
    ends = {"pad": tokenizer.pad_token_id, "end": tokenizer.eos_token_id, "BOS": tokenizer.bos_token_id}
    for what, number in ends.items():
        if number is not None and number >= rows:
            raise ValueError(
                f"{_who(lm)}: its {what} token has the id {number}, and there are embeddings for 0..{rows - 1} only"
            )
    template = str(getattr(tokenizer, "chat_template", None) or "")
    added = set(tokenizer.get_added_vocab())  # Gemma has one for images, which text does not hold
    beyond = {
        token: number
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and (token not in added or token in template)
    }
    if beyond:
        token, number = min(beyond.items(), key=lambda one: one[1])
        raise ValueError(f"{_who(lm)}: its tokenizer has {len(beyond)} tokens beyond its {rows} embeddings, {token!r} for one")


def check_weights(lm: FrozenLM) -> None:
    """Refuse weights that are not finite."""
    for name, weight in lm.model.named_parameters():
        if weight.is_floating_point() and weight.element_size() > 1 and weight.numel():
            least, most = torch.aminmax(weight)
            if not torch.isfinite(torch.stack([least, most])).all():
                raise ValueError(f"{_who(lm)}: its weights are not finite, {name} for one")


class _Own:
    """What the model itself makes of tokens: its logits and its last hidden states."""

    def __init__(self, logits: Tensor, last: Tensor) -> None:
        self.logits, self.last = logits, last


def _own(lm: FrozenLM, ids: Tensor) -> _Own:
    """The model's own passes over the tokens. Refuses states that are not one vector of its width at each layer and token."""
    try:
        logits = lm.model(input_ids=ids, use_cache=False).logits
        output = lm.body(input_ids=ids, use_cache=False, output_hidden_states=True)
        states = [*output.hidden_states[: lm.depth], output.last_hidden_state]
    except Exception as error:  # every architecture fails in its own way
        raise ValueError(f"{_who(lm)}: it cannot be read as a causal LM ({_reason(error)})") from error
    shape = (1, TOKENS, lm.width)
    odd = next((tuple(one.shape) for one in states if one.shape != shape), None)
    if odd or len(states) != lm.depth + 1:
        told = f"a state of shape {odd}" if odd else f"{len(states)} states"
        raise ValueError(
            f"{_who(lm)}: {told} where {lm.depth} layers give {lm.depth + 1} states of shape {shape}, as wide as its embeddings"
        )
    if not torch.isfinite(logits).all():
        raise ValueError(f"{_who(lm)}: its logits are not finite")
    return _Own(logits, output.last_hidden_state)


def _source_alone(lm: FrozenLM, ids: Tensor, last_1TD: Tensor) -> str | None:
    """Why the model's states can be read and nothing else, if that is so."""

    def embedded() -> bool:
        return _alike(lm, lm.body(inputs_embeds=lm.embed(ids), use_cache=False).last_hidden_state, last_1TD)

    def softened() -> bool:
        soft = lm.embed(ids).flip(-1)
        return bool(torch.isfinite(lm.body(inputs_embeds=soft, use_cache=False).last_hidden_state).all())

    tries: dict[str, Callable[[], bool]] = {
        "it does not read embeddings as it reads their tokens": embedded,
        "it takes no embeddings but those of its tokens": softened,
        "it does not decode from a cache as without one": lambda: _decodes(lm, ids, last_1TD, once=False),
    }
    for told, try_it in tries.items():
        try:
            if not try_it():
                return told
        except Exception as error:  # every architecture fails in its own way
            return f"{told} ({_reason(error)})"
    return None


def _shares(lm: FrozenLM, ids: Tensor, last_1TD: Tensor) -> bool:
    """Whether rows that attend to one copy of their shared tokens give the states of one pass."""
    try:
        return _decodes(lm, ids, last_1TD, once=True)
    except Exception as error:  # every architecture fails in its own way
        log.info("%s keeps a copy of a shared prompt for every row (%s)", _who(lm), _reason(error))
        return False


def _in_slots(lm: FrozenLM, ids: Tensor, last_1TD: Tensor) -> bool:
    """Whether rows in slots, each at its own length behind shared tokens, give the states of one pass."""
    shared, lengths = TOKENS // 4, (TOKENS // 4, TOKENS // 2)
    (row,) = ids.tolist()
    prompts = lm.text_piece([row[shared : shared + length] for length in lengths])
    ends = [shared + length for length in lengths]
    try:
        slots = Slots(lm, Prefix.read(lm, row[:shared], once=True), count=len(lengths), room=TOKENS)
        for part, cache, _ in read_in_parts(lm, prompts, slots.prefix):
            slots.fill(part, cache, [lengths[i] for i in part])
        slots.seats.running = len(lengths)
        slots.token.copy_(ids[0, ends])
        return _alike(lm, slots.states(), last_1TD[0, ends])
    except Exception as error:  # every architecture fails in its own way
        log.info("%s decodes in a batch that grows (%s)", _who(lm), _reason(error))
        return False


def _decodes(lm: FrozenLM, ids: Tensor, last_1TD: Tensor, *, once: bool) -> bool:
    """Whether two prompts of unequal length behind shared tokens, and a token after each, give the states of one pass."""
    shared, lengths = TOKENS // 4, (TOKENS // 4, TOKENS // 2)
    if not lm.attends_only:  # such rows are read whole, one length at a time
        shared, lengths = 0, (TOKENS // 2, TOKENS // 2)
    (row,) = ids.tolist()
    prompts: Piece = lm.text_piece([row[shared : shared + length] for length in lengths])
    context, first_BD = prefilled(lm, prompts, Prefix.read(lm, row[:shared], once=once))
    ends = [shared + length for length in lengths]
    second_BD = context.read(lm.embed(ids[0, ends].unsqueeze(1)))[:, -1]
    before = [end - 1 for end in ends]
    return _alike(lm, first_BD, last_1TD[0, before]) and _alike(lm, second_BD, last_1TD[0, ends])


def _ids(lm: FrozenLM) -> Tensor:
    """Tokens (1, T) from all over the vocabulary."""
    tokens = min(lm.embedding.rows, len(lm.tokenizer))
    return torch.tensor([[(7919 * i + 3) % tokens for i in range(TOKENS)]], device=lm.device)


def _alike(lm: FrozenLM, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal but for rounding."""
    error = (one.float() - other.float()).norm() / other.float().norm()
    return bool(error <= SLACK.get(lm.model.dtype, HALF_SLACK))


def _who(lm: FrozenLM) -> str:
    return f"model {lm.name!r} ({type(lm.model).__name__})"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:200]}"
