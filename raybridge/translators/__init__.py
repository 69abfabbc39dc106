"""Translators, one file each: a frozen config (`Translator`) that builds the module (`TranslatorModule`) of its soft tokens.

Shapes: B batch, T source positions, L source layers, S source width or features of a position, K soft tokens, D target width,
N aligned positions.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.translators.parts import Attention
from raybridge.translators.ridge import Moments


class TranslatorModule(nn.Module):
    """What `Translator.build` returns: from states (B, T, L, S) of the source and their mask (B, T) to soft tokens (B, K, D).

    A translator defines `forward`; whatever else is special about it, it says by a method that stands here with its default.
    """

    @property
    def maps(self) -> list[Tensor]:
        """The weights of its linear maps."""
        return [part.weight for part in self.modules() if isinstance(part, nn.Linear)]

    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Parameters for the optimizer: matrices decay, vectors do not, and gates learn three times as fast."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        gates = [p for name, p in named if name.endswith("gate")]
        matrices = [p for name, p in named if p.ndim >= 2 and not name.endswith("gate")]
        vectors = [p for name, p in named if p.ndim < 2 and not name.endswith("gate")]
        groups: list[dict[str, Any]] = [
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
        """Where its soft tokens attend to the question or to each other: what `evaluation.conditioning` looks at."""
        return [part for part in self.modules() if isinstance(part, Attention)]

    def core_states(self, states_BTLS: Tensor) -> Tensor:
        """The states as the core reads them, behind the options around it."""
        return states_BTLS

    @property
    def fitted_from(self) -> frozenset[str]:
        """What `fit` needs beside source states, of "embeddings" and "nll"; empty where nothing is fitted."""
        return frozenset()

    def fit(self, moments: Moments) -> None:
        """Start in closed form from source positions, as the core reads them, and the target's token that each is aligned to.

        moments: of what `fitted_from` names: "embeddings" (D values a position), "nll" (one).
        """

    @property
    def adds_onto_text(self) -> bool:
        """Whether `place` with a text adds the soft tokens onto it, instead of putting them in front."""
        return False

    def trained_for(self, done: float) -> None:
        """Hear before each step how much of the training is done, a share of its steps. One that never does writes K."""

    def place(self, target: FrozenLM, text: Piece | None, soft_BKD: Tensor) -> list[Piece]:
        """What stands in the question's place before the target: the soft tokens, then the text if there is one."""
        soft = target.soft_piece(soft_BKD)
        return [soft] if text is None else [soft, text]

    def read_by(self, target: FrozenLM) -> FrozenLM:
        """The model that reads what it wrote: the target as it is."""
        return target

    def for_target(self, name: str, states_BTLS: Tensor, mask_BT: Tensor, *, rms: float) -> Tensor:
        """Soft tokens (B, K, D') for one of the config's `other_targets`, whose embeddings have this RMS."""
        raise NotImplementedError  # a translator with other targets defines it

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D)."""
        raise NotImplementedError  # a translator file defines it


class Translator(Protocol):
    """What a translator's config offers: how many soft tokens, which hidden layers of the source it reads, its module.

    Most inherit `OneTarget`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]  # it is a dataclass: `dataclasses.replace` derives from it

    @property
    def soft_tokens(self) -> int:
        """K."""

    @property
    def most_soft_tokens(self) -> int:
        """How many it writes while it is trained, at most."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the source's hidden states; 0 is the embeddings."""

    @property
    def other_targets(self) -> tuple[str, ...]:
        """Names of the targets that it writes for beside the trial's own."""

    @property
    def adds_to(self) -> tuple[int, ...]:
        """Numbers of the target's hidden states that it adds to, on their way through the target."""

    @property
    def arm(self) -> str:
        """Name of the arm that it is trained for: it is selected, stopped and ranked by that one beside its control."""

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> TranslatorModule:
        """The module for a source of width S and a target of width D whose embeddings have this RMS."""


class InFront:
    """What a translator's config inherits whose soft tokens stand in front of the target and change nothing inside it."""

    soft_tokens: int

    @property
    def most_soft_tokens(self) -> int:
        """K all along."""
        return self.soft_tokens

    @property
    def arm(self) -> str:
        """Soft tokens in the question's place."""
        return "bridged"

    @property
    def adds_to(self) -> tuple[int, ...]:
        """None."""
        return ()


class OneTarget(InFront):
    """What a translator's config inherits that writes for the trial's own target alone."""

    @property
    def other_targets(self) -> tuple[str, ...]:
        """None."""
        return ()
