"""A prompt's keys and values, read once, that every row of a training pass attends to besides its own positions.

They have no gradient: a frozen model reads fixed tokens. Decoding shares a prompt by a cache (`prefill`); a pass with a
gradient keeps no cache, and its layers find here what is lent to them.

Shapes: G KV heads, P positions of the prompt, E head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

KEYS, VALUES = "lent_keys_1GPE", "lent_values_1GPE"  # attributes of the modules that attend


@dataclass(frozen=True, eq=False, kw_only=True)
class Lent:
    """The keys and values (1, G, P, E) of some tokens in each layer. packs: whether packed passes attend to them rightly."""

    tokens: tuple[int, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    packs: bool = False

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, layers: Iterable[nn.Module]) -> None:
        """Lend them to the layers of a model, in whose attention they stay until others are lent.

        Attributes, not arguments: a layer that is computed again in the backward pass finds them too.
        """
        for layer in layers:
            for module in layer.modules():
                number = vars(module).get("layer_idx")
                if number is not None and vars(module).get(KEYS) is not self.keys[number]:
                    setattr(module, KEYS, self.keys[number])
                    setattr(module, VALUES, self.values[number])


def lent_to(module: nn.Module) -> tuple[Tensor, Tensor]:
    """The keys and values that a module which attends was lent."""
    return getattr(module, KEYS), getattr(module, VALUES)


def behind(keys_1GPE: Tensor, states_BGTE: Tensor) -> Tensor:
    """Keys or values (B, G, P + T, E) of each row behind those that it was lent."""
    return torch.cat([keys_1GPE.expand(len(states_BGTE), -1, -1, -1), states_BGTE], dim=2)


def seeing(mask: Tensor | None, positions: int, lent: int, device: torch.device) -> Tensor:
    """What each position sees (B or 1, 1, T, P + T): all that is lent, and of its own row as the mask says, or up to itself."""
    if mask is None:
        mask = torch.ones(1, 1, positions, positions, dtype=torch.bool, device=device).tril()
    assert mask.dtype == torch.bool, "a mask that is added to scores belongs to no model that shares prompts"
    return torch.cat([mask.new_ones(*mask.shape[:-1], lent), mask], dim=-1)


def read(cache: DynamicCache, tokens: Sequence[int]) -> Lent:
    """What is lent of a cache that has read these tokens alone."""
    keys, values = ([getattr(layer, name).detach().contiguous() for layer in cache.layers] for name in ("keys", "values"))
    return Lent(tokens=tuple(tokens), keys=tuple(keys), values=tuple(values))
