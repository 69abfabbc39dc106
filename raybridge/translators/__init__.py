"""Translators: one file each, a frozen config that builds its module.

Contract of a module: states (B, T, L, S) of L source layers and their mask (B, T) -> soft tokens (B, K, D).
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from raybridge.models.lm import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.translators.parts import Attention


class TranslatorModule(nn.Module):
    """What `Translator.build` returns."""

    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, object]]:
        """Parameters for the optimizer: matrices decay, vectors do not, and gates learn three times as fast."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        gates = [p for name, p in named if name.endswith("gate")]
        matrices = [p for name, p in named if p.ndim >= 2 and not name.endswith("gate")]
        vectors = [p for name, p in named if p.ndim < 2 and not name.endswith("gate")]
        groups: list[dict[str, object]] = [
            {"params": matrices, "lr": learning_rate, "weight_decay": weight_decay},
            {"params": vectors, "lr": learning_rate, "weight_decay": 0.0},
            {"params": gates, "lr": 3 * learning_rate, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    @property
    def core(self) -> TranslatorModule:
        """The translator without the options around it."""
        return self

    @property
    def stands_evenly(self) -> bool:
        """Whether soft token k stands for the k-th of evenly spaced positions (`anchor.picks`), if it stands for any."""
        return True

    @property
    def attentions(self) -> list[Attention]:
        """Where its soft tokens attend to the question or to each other: what `diagnostics` looks at."""
        return [part for part in self.modules() if isinstance(part, Attention)]

    def core_states(self, states_BTLS: Tensor) -> Tensor:
        """The states as the core reads them, behind the options around it."""
        return states_BTLS

    @property
    def adds_onto_text(self) -> bool:
        """Whether `place` with a text adds the soft tokens onto it, instead of putting them in front."""
        return False

    def place(self, target: FrozenLM, text: Piece | None, soft_BKD: Tensor) -> list[Piece]:
        """What stands in the question's place before the target: the soft tokens, then the text if there is one."""
        soft = target.soft_piece(soft_BKD)
        return [soft] if text is None else [soft, text]

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D)."""
        raise NotImplementedError  # a translator file defines it


class Translator(Protocol):
    """What a translator's config offers: how many soft tokens, which hidden layers of the source it reads, its module."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # it is a dataclass: `dataclasses.replace` derives from it

    @property
    def soft_tokens(self) -> int:
        """K."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the source's hidden states; 0 is the embeddings."""

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> TranslatorModule:
        """The module for a source of width S and a target of width D whose embeddings have this RMS."""
