"""A frozen LM with low-rank updates of some of its linear maps: the same weights, read beside what is learned.

Shapes: D in, E out, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig

from raybridge.errors import unknown
from raybridge.models.frozen import FrozenLM
from raybridge.models.shape import without_weights


class Update(nn.Module):
    """What is added to a linear map: up (E, R) times down (R, D), scaled by alpha / R; nothing before it is trained."""

    def __init__(self, width_in: int, width_out: int, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.randn(rank, width_in) / width_in**0.5)
        self.up = nn.Parameter(torch.zeros(width_out, rank))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., E), in fp32 and given back in the input's precision, where the input is."""
        down, up = self.down.to(x.device), self.up.to(x.device)
        return (self.scale * F.linear(F.linear(x.float(), down), up)).to(x.dtype)


class Updated(nn.Module):
    """Stands in a linear map's place."""

    def __init__(self, base: nn.Linear, update: Update) -> None:
        super().__init__()
        self.base = base
        self._own = (update,)  # in a tuple it is no child: the model stays frozen, the update is its owner's

    @property
    def weight(self) -> Tensor:
        """The frozen one: some models look at its precision."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., E)."""
        (update,) = self._own
        return self.base(x) + update(x)


def linear_shapes(config: PreTrainedConfig, parts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """D and E of the linear maps whose names end in one of these, by their whole names, from a model's config alone."""
    maps = {name: one for name, one in without_weights(config).named_modules() if isinstance(one, nn.Linear)}
    valid = sorted({name.rsplit(".", 1)[-1] for name in maps if "." in name})
    for part in parts:
        if part not in valid:
            raise unknown("linear map", part, valid)
    return {name: (one.in_features, one.out_features) for name, one in maps.items() if name.rsplit(".", 1)[-1] in parts}


def with_updates(lm: FrozenLM, updates: Mapping[str, Update]) -> FrozenLM:
    """Another reader of the same weights, whose linear maps of these names have updates. `lm` itself stays as it is."""
    model = deepcopy(lm.model, {id(one): one for one in [*lm.model.parameters(), *lm.model.buffers()]})
    for name, update in updates.items():
        parent, _, own = name.rpartition(".")
        base = model.get_submodule(name)
        if (base.in_features, base.out_features) != (update.down.shape[1], update.up.shape[0]):
            raise ValueError(f"model {lm.name!r}: its map {name} is not of the shape that its update was made for")
        setattr(model.get_submodule(parent), own, Updated(base, update))
    found = FrozenLM(lm.name, model, lm.tokenizer)
    found.source_alone, found.shares_prompts = lm.source_alone, lm.shares_prompts
    return found
