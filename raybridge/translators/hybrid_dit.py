"""Hybrid diffusion translator: a `DiT` whose blocks also attend to each of the question's source states.

Pooling alone must press a question into one vector; cross-attention lets every soft token choose what it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from raybridge.translators.dit import Block, Condition, DiT, DiTModule
from raybridge.translators.parts import Attention


@dataclass(frozen=True, kw_only=True)
class HybridDiT(DiT):
    """A `DiT` with cross-attention between self-attention and feed-forward of every block."""

    VERSION: ClassVar[int] = 1

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> HybridDiTModule:
        """The module, initialised from torch's current random state."""
        return HybridDiTModule(self, source_dim, target_dim, target_rms, block=HybridBlock)


class HybridBlock(Block):
    """A block with a third branch, modulated and gated like the others."""

    BRANCHES = 3

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.cross_attention = Attention(width, heads)

    def branches(self, condition: Condition) -> list[Callable[[Tensor], Tensor]]:
        """The residual branches, in order."""
        attention, mlp = super().branches(condition)
        return [attention, lambda x: self.cross_attention(x, condition.memory_BTW, condition.mask_BT), mlp]


class HybridDiTModule(DiTModule):
    """See the file's docstring."""

    @property
    def attentions(self) -> list[Attention]:
        """Those of the blocks: the query that pools the question is no soft token's."""
        return [part for block in self.blocks for part in block.modules() if isinstance(part, Attention)]
