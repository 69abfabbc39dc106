"""The beginning of a causal LM: embeddings of tokens as its first layer receives them.

Gemma scales them within its embedding module, Falcon-H1 only where it is given ids: `.weight` alone is too small for both.

Shapes: B batch, T positions, D width.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor


class Embedding:
    """Embeddings (..., D) of token ids."""

    def __init__(self, model: Any, body: Any) -> None:
        self._table, self._body = model.get_input_embeddings(), body

    def __call__(self, ids: Tensor) -> Tensor:
        """As the model scales them."""
        embeds: Tensor = self._table(ids)
        return embeds if self._scale == 1.0 else embeds * self._scale

    @property
    def rows(self) -> int:
        """How many tokens have one."""
        return self._table.weight.shape[0]

    @property
    def width(self) -> int:
        """Their size."""
        return self._table.weight.shape[1]

    @cached_property
    def rms(self) -> float:
        """Their median RMS."""
        ids = torch.arange(self.rows, device=self._table.weight.device)
        return torch.cat([self(part).float().pow(2).mean(-1).sqrt() for part in ids.split(16384)]).median().item()

    @cached_property
    @torch.no_grad()
    def _scale(self) -> float:
        """What the model multiplies them by when it is given ids, and not when it is given embeddings: seen on one token."""
        scale: float = getattr(self._body, "embedding_multiplier", 1.0)
        if scale == 1.0:
            return scale
        ids = torch.zeros(1, 1, dtype=torch.long, device=self._table.weight.device)
        own, given = (
            self._body(**one, output_hidden_states=True, use_cache=False).hidden_states[0].float().norm()
            for one in ({"input_ids": ids}, {"inputs_embeds": self._table(ids)})
        )
        return scale if abs(own / given - scale) < abs(own / given - 1) else 1.0
