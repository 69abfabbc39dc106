"""The target adapted: low-rank updates of its own weights behind a tuned prompt (LoRA, Hu et al. 2021, arXiv:2106.09685).

What does freezing the target cost? Against `format_only`, which is the same with the target frozen, trained on the same data in
as many steps. The updates are the translator's weights: the target's own never change, and other arms read them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from raybridge.models.frozen import FrozenLM
from raybridge.models.low_rank import Update, linear_shapes, with_updates
from raybridge.models.names import config_of
from raybridge.translators.format_only import FormatOnly
from raybridge.translators.prompt_tuning import PromptTuningModule


@dataclass(frozen=True, kw_only=True)
class ReceiverLoRA(FormatOnly):
    """K soft tokens, the same for every question, and updates of rank `rank` of the maps `parts` in every layer of the target.

    target: the trial's own, whose shape they have. alpha: the updates are scaled by alpha / rank.
    """

    VERSION: ClassVar[int] = 1

    target: str
    rank: int = 8
    alpha: float = 16.0
    parts: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1 or not self.alpha > 0 or not self.parts or len(set(self.parts)) < len(self.parts):
            raise ValueError("translator ReceiverLoRA: rank must be at least 1, alpha above 0, and parts names, each once")

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> ReceiverLoRAModule:
        """The module, initialised from torch's current random state."""
        return ReceiverLoRAModule(self, target_dim, target_rms)


class ReceiverLoRAModule(PromptTuningModule):
    """See the file's docstring."""

    def __init__(self, config: ReceiverLoRA, target_dim: int, target_rms: float) -> None:
        super().__init__(config, target_dim, target_rms)
        shapes = linear_shapes(config_of(config.target), config.parts).items()
        self.name = config.target
        self.by_map = {name: Update(*shape, rank=config.rank, alpha=config.alpha) for name, shape in shapes}
        self.updates = nn.ModuleList(self.by_map.values())
        self._adapted: tuple[FrozenLM, FrozenLM] | None = None  # a target, and what reads in its stead

    def read_by(self, target: FrozenLM) -> FrozenLM:
        """The target with the updates as they are now."""
        if target.name != self.name:
            raise ValueError(f"translator ReceiverLoRA adapts {self.name!r}, and the target is {target.name!r}")
        if self._adapted is None or self._adapted[0] is not target:
            self._adapted = target, with_updates(target, self.by_map)
        return self._adapted[1]
