"""Prompts of unequal length read into a cache, each as if it stood alone, and what follows them.

Shapes: B rows, T prompt positions, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import signature

import torch
from torch import Tensor
from torch.nn import Module
from transformers import DynamicCache

from raybridge.models import lent
from raybridge.models.attention import takes_heads_grouped
from raybridge.models.backbone import PACKING_SLACK
from raybridge.models.frozen import POSITIONS, FrozenLM
from raybridge.models.kv_cache import growing_cache, joined, repeated
from raybridge.models.packing import within_window
from raybridge.models.parts import that_fit
from raybridge.models.pieces import Piece, positions, taken

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A prompt that all rows share, read once. once: they all attend to its one copy, and each has a copy of it otherwise."""

    cache: DynamicCache
    last_11D: Tensor
    length: int
    once: bool

    @staticmethod
    @torch.no_grad()
    def read(lm: FrozenLM, tokens: Sequence[int], *, once: bool) -> Prefix | None:
        """The tokens read; none where there are none."""
        if not tokens:
            return None
        cache = growing_cache(lm.model.config)
        states_1TD = read_on(lm, cache, lm.embed(torch.tensor([list(tokens)], device=lm.device)))
        return Prefix(cache=cache, last_11D=states_1TD[:, -1:], length=len(tokens), once=once)


@dataclass(kw_only=True)
class Context:
    """What the rows of a batch have read: a cache, which of its columns are real, and the prefix that stands before them."""

    lm: FrozenLM
    cache: DynamicCache
    mask_BT: Tensor
    prefix: Prefix | None

    def read(self, embeds_BTD: Tensor) -> Tensor:
        """Last hidden states (B, T, D) of what follows in every row."""
        new = torch.ones(embeds_BTD.shape[:2], dtype=torch.bool, device=self.mask_BT.device)
        self.mask_BT = torch.cat([self.mask_BT, new], dim=1)
        return read_on(self.lm, self.cache, embeds_BTD, self.mask_BT, self.prefix)

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self.cache.reorder_cache(rows)
        self.mask_BT = self.mask_BT[rows]


@torch.no_grad()
def prefilled(lm: FrozenLM, prompt: Piece, prefix: Prefix | None) -> tuple[Context, Tensor]:
    """The prompts read behind a prefix, and the last state (B, D) of each.

    They are moved so that all end in the last column, what they have of the prefix directly before them.
    """
    B, T = prompt.mask_BT.shape
    once, copied = (prefix, None) if prefix and prefix.once else (None, prefix)
    parts, caches, last_BD = [], [], prompt.embeds_BTD.new_zeros(B, lm.width)
    for part, cache, last_CD in read_in_parts(lm, prompt, prefix):
        last_BD[part] = last_CD
        parts.append(part)
        caches.append(cache)
    gap_B = T - prompt.mask_BT.sum(dim=1)
    cache = joined(caches, parts, gap_B) if len(parts) > 1 or gap_B.any() else caches[0]
    mask_BT = torch.arange(T + (copied.length if copied else 0), device=lm.device) >= gap_B.unsqueeze(1)
    return Context(lm=lm, cache=cache, mask_BT=mask_BT, prefix=once), last_BD


@torch.no_grad()
def read_in_parts(lm: FrozenLM, prompt: Piece, prefix: Prefix | None) -> Iterator[tuple[list[int], DynamicCache, Tensor]]:
    """The prompts read behind a prefix, as many positions at a time as a pass takes: rows, their cache, their last states.

    They are read with their pads behind them, where they change nothing; the cache begins with what they have of the prefix.
    """
    length_B = prompt.mask_BT.sum(dim=1)
    once, copied = (prefix, None) if prefix and prefix.once else (None, prefix)
    for part in that_fit(length_B.tolist(), free=POSITIONS) if lm.attends_only else [list(range(len(length_B)))]:
        rows = prompt.rows(part).shorter(int(length_B[part].max()))
        cache = repeated(copied.cache, lm.model.config, len(part)) if copied else growing_cache(lm.model.config)
        before_B1D = prefix.last_11D.expand(len(part), -1, -1) if prefix else rows.embeds_BTD.new_zeros(len(part), 1, lm.width)
        with lm.injecting(rows.injected):
            read_BTD = read_on(lm, cache, rows.embeds_BTD, prefix=once) if rows.mask_BT.shape[1] else before_B1D[:, :0]
        yield part, cache, taken(torch.cat([before_B1D, read_BTD], dim=1), length_B[part].unsqueeze(1))[:, 0]


@torch.no_grad()
def read_on(
    lm: FrozenLM, cache: DynamicCache, embeds_BTD: Tensor, mask_BT: Tensor | None = None, prefix: Prefix | None = None
) -> Tensor:
    """Last hidden states (B, T, D) of what follows the tokens in a cache, which then holds them too.

    mask_BT: which of the columns of cache and embeddings are real, where pads stand before a row; prefix: what all rows have
    read before, and is not in the cache.
    """
    known = _arguments(lm.body.__class__)
    name = next((name for name in ("past_key_values", "cache_params") if name in known), None)
    if name is None:
        raise ValueError(f"{type(lm.model).__name__} takes no cache")
    told: dict[str, object] = {name: cache}
    if mask_BT is not None and lm.attends_only:  # recurrences are read without pads, and some take a mask of new tokens alone
        told["attention_mask"] = mask_BT
    if prefix is not None:
        mask_BT = torch.ones(embeds_BTD.shape[:2], dtype=torch.bool, device=lm.device) if mask_BT is None else mask_BT
        told["prefix"] = prefix.cache
    if mask_BT is not None and "position_ids" in known:
        told["position_ids"] = positions(mask_BT)[:, -embeds_BTD.shape[1] :] + (prefix.length if prefix else 0)
    with lm.grouped():
        states_BTD: Tensor = lm.body(inputs_embeds=embeds_BTD, use_cache=True, **told).last_hidden_state
    return states_BTD


@torch.no_grad()
def lend(lm: FrozenLM, tokens: Sequence[int], *, longest: int) -> lent.Lent | None:
    """The tokens read once, for passes with a gradient whose rows have so many tokens behind them at most.

    None where the model cannot attend to one copy for all rows: they are then read with every row. Packed passes are seen to
    attend to them as padded ones do, on this model and device, before they are relied on.
    """
    if not (lm.shares_prompts and within_window(lm.model, len(tokens) + longest)):
        log.warning("model %r cannot attend to one copy of %d shared tokens: every row reads them again", lm.name, len(tokens))
        return None
    prefix = Prefix.read(lm, tokens, once=True)
    assert prefix is not None, "there are tokens to lend"
    found = lent.read(prefix.cache, tokens)
    return replace(found, packs=True) if lm.packs and _packs(lm, found) else found


def _packs(lm: FrozenLM, found: lent.Lent) -> bool:
    """Whether packed rows attend to what is lent as padded ones do."""
    error = lm.packing_error([found.tokens[:5], found.tokens[-32:]], lent=found)
    if error > PACKING_SLACK:
        log.warning(
            "model %r: packed passes behind shared tokens give other states than padded ones (relative error %.2f), so these "
            "are padded",
            lm.name,
            error,
        )
    return error <= PACKING_SLACK


def can_share(lm: FrozenLM) -> bool:
    """Whether a model could attend to one copy of a prompt for all rows: all it does is attend, as and where it is told."""
    return lm.attends_only and takes_heads_grouped(lm.model) and "position_ids" in _arguments(lm.body.__class__)


@lru_cache
def _arguments(body: type[Module]) -> frozenset[str]:
    return frozenset(signature(body.forward).parameters)
