"""Interlingua: one shared latent Z that several targets read, each through a small adapter of its own.

The encoder is a resampler (see `bottlenecked`) from the source's states to M latents, and knows no target. An adapter maps
each latent to a soft token of its target and calibrates it, example by example, to that target's embedding RMS. The source may
be a pretrained LM or `bytes`, which reads UTF-8.

Shapes: B batch, T source positions, L source layers, S source width, W encoder width, M latents = soft tokens,
Z latent width, D target width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from raybridge.config import typed
from raybridge.errors import unknown
from raybridge.models import byte_lm, names
from raybridge.translators import InFront, Translator, TranslatorModule
from raybridge.translators.bottlenecked import Block
from raybridge.translators.options import OntoText, Option
from raybridge.translators.parts import Norm, Reader, at_rms, check, check_heads


@dataclass(frozen=True, kw_only=True)
class Interlingua(InFront):
    """M = `soft_tokens` latents of `latent_width` from `layers`. width, depth, heads: of the encoder.

    also: other targets, each with an adapter that the loss `other_target` trains while the trial's own target trains its own.
    """

    VERSION: ClassVar[int] = 1

    soft_tokens: int
    layers: tuple[int, ...]
    latent_width: int = 256
    width: int = 512
    depth: int = 4
    heads: int = 8
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        typed(self)
        check(soft_tokens=self.soft_tokens, layers=self.layers)
        check_heads(width=self.width, heads=self.heads)
        if self.depth < 1 or self.latent_width < 1:
            raise ValueError("translator Interlingua: depth and latent_width must be at least 1")
        if len(set(self.also)) < len(self.also):
            raise ValueError(f"translator Interlingua: also must name each target once, not {self.also}")
        if byte_lm.NAME in self.also:
            raise ValueError(
                f"translator Interlingua: {byte_lm.NAME!r} is a source, which answers nothing, and no other target"
            )

    @property
    def other_targets(self) -> tuple[str, ...]:
        """Those that have an adapter."""
        return self.also

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> InterlinguaModule:
        """The module, initialised from torch's current random state."""
        return InterlinguaModule(self, source_dim, target_dim, target_rms)


class Adapter(nn.Module):
    """From latents (B, M, Z) to soft tokens (B, M, D), one by one, at any RMS."""

    def __init__(self, latent_width: int, target_dim: int) -> None:
        super().__init__()
        self.norm = Norm(latent_width)
        self.mix = nn.Linear(latent_width, latent_width)
        self.out = nn.Linear(latent_width, target_dim)

    def forward(self, latents_BMZ: Tensor) -> Tensor:
        """Soft tokens (B, M, D)."""
        latents_BMZ = self.norm(latents_BMZ)
        return self.out(latents_BMZ + nn.functional.silu(self.mix(latents_BMZ))).float()


class InterlinguaModule(TranslatorModule):
    """See the file's docstring."""

    def __init__(self, config: Interlingua, source_dim: int, target_dim: int, target_rms: float) -> None:
        super().__init__()
        self.config, self.target_rms = config, target_rms
        self.reader = Reader(len(config.layers) * source_dim, config.width)
        self.queries_MW = nn.Parameter(nn.init.orthogonal_(torch.empty(config.soft_tokens, config.width), config.width**0.5))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = Norm(config.width)
        self.to_latent = nn.Linear(config.width, config.latent_width)
        self.adapter = Adapter(config.latent_width, target_dim)
        self.others = nn.ModuleList(Adapter(config.latent_width, names.width_of(name)) for name in config.also)

    def latents(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Z (B, M, Z): what every target reads."""
        memory_BTW = self.reader(states_BTLS, mask_BT)
        x_BMW = self.queries_MW.expand(len(mask_BT), -1, -1)
        for block in self.blocks:
            x_BMW = block(x_BMW, memory_BTW, mask_BT)
        return self.to_latent(self.norm(x_BMW))

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, M, D) of the trial's own target, each at its embedding RMS."""
        return at_rms(self.adapter(self.latents(states_BTLS, mask_BT)), self.target_rms)

    def for_target(self, name: str, states_BTLS: Tensor, mask_BT: Tensor, *, rms: float) -> Tensor:
        """Soft tokens (B, M, D') of one of the other targets."""
        adapter = self.others[self.config.also.index(name)]
        return at_rms(adapter(self.latents(states_BTLS, mask_BT)), rms)


def turned_to(
    name: str, translator: Translator, weights: Mapping[str, Tensor], *, own: str, inside: str = ""
) -> tuple[Translator, dict[str, Tensor]]:
    """The same translator as one whose own target is its other target `name`: the two adapters change places.

    inside: what the names of the translator's weights start with, where options are around it.
    """
    if isinstance(translator, Option) and not isinstance(translator, OntoText):
        inner, weights = turned_to(name, translator.translator, weights, own=own, inside=f"{inside}inner.")
        return replace(translator, translator=inner), weights
    also = translator.also if isinstance(translator, Interlingua) else ()
    if name not in also:
        raise unknown("other target of this translator", name, also, where="an Interlingua names them in `also`")
    here, there = f"{inside}adapter.", f"{inside}others.{also.index(name)}."
    swapped = {
        there + key.removeprefix(here)
        if key.startswith(here)
        else here + key.removeprefix(there)
        if key.startswith(there)
        else key: weight
        for key, weight in weights.items()
    }
    return replace(translator, also=tuple(own if other == name else other for other in also)), swapped
