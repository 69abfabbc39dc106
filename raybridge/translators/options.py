"""Options of any translator, as translators that wrap one: which layers are read, and a projection in front.

They compose: `Projected(translator=LayerMix(translator=..., layers=...))`. `soft_tokens` given to the outermost reaches the
translator inside, so that a sweep derives from a wrapped translator as from any other.

Shapes: B batch, T source positions, L source layers read, M layers that the wrapped translator sees, S source width or
features of a position, K soft tokens, D target width, N aligned positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raybridge.config import typed
from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.translators import Translator, TranslatorModule
from raybridge.translators.parts import zero_linear
from raybridge.translators.ridge import Moments


@dataclass(frozen=True, kw_only=True)
class Option:
    """What wraps a translator. soft_tokens: None takes the translator's own; a number replaces it."""

    translator: Translator
    soft_tokens: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        typed(self)
        if self.soft_tokens is None:
            object.__setattr__(self, "soft_tokens", self.translator.soft_tokens)
        elif self.soft_tokens != self.translator.soft_tokens:
            object.__setattr__(self, "translator", replace(self.translator, soft_tokens=self.soft_tokens))

    @property
    def most_soft_tokens(self) -> int:
        """Those of the translator."""
        return self.translator.most_soft_tokens

    @property
    def other_targets(self) -> tuple[str, ...]:
        """Those of the translator."""
        return self.translator.other_targets

    @property
    def adds_to(self) -> tuple[int, ...]:
        """Those of the translator."""
        return self.translator.adds_to

    @property
    def arm(self) -> str:
        """That of the translator."""
        return self.translator.arm


@dataclass(frozen=True, kw_only=True)
class LayerMix(Option):
    """Each layer that the translator reads becomes a learned mixture of `layers`, and starts as that layer itself."""

    VERSION: ClassVar[int] = 1

    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers of a LayerMix must be named once each, not {self.layers}")
        missing = [layer for layer in self.translator.layers if layer not in self.layers]
        if missing:
            raise ValueError(f"layers of a LayerMix must hold those that its translator starts from; {missing} are missing")

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> LayerMixModule:
        """The module, initialised from torch's current random state."""
        return LayerMixModule(self, self.translator.build(source_dim, target_dim, target_rms=target_rms))


@dataclass(frozen=True, kw_only=True)
class Projected(Option):
    """A learned linear map of the source states in front of the translator, the same for every layer; starts as identity.

    For pairs whose spaces differ, so that what is behind it need not learn the rotation.
    """

    VERSION: ClassVar[int] = 1

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the translator."""
        return self.translator.layers

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> ProjectedModule:
        """The module, initialised from torch's current random state."""
        return ProjectedModule(source_dim, self.translator.build(source_dim, target_dim, target_rms=target_rms))


@dataclass(frozen=True, kw_only=True)
class BesideText(Option):
    """Soft tokens in front of the question's text, as every translator's stand there: trained, selected and ranked beside it.

    It must be the outermost option. The loss `answer_beside_text` trains it so.
    """

    VERSION: ClassVar[int] = 1

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the translator."""
        return self.translator.layers

    @property
    def arm(self) -> str:
        """Beside the question as text."""
        return "bridged_with_text"

    def build(self, source_dim: int, target_dim: int, *, target_rms: float) -> TranslatorModule:
        """The translator's own module."""
        return self.translator.build(source_dim, target_dim, target_rms=target_rms)


class OptionModule(TranslatorModule):
    """A translator behind a change of the source states, which it sees at unit RMS as always.

    An option changes what is read; all else is asked of the translator that it wraps.
    """

    def __init__(self, inner: TranslatorModule) -> None:
        super().__init__()
        self.inner = inner

    def changed(self, states_BTLS: Tensor) -> Tensor:
        """The states as the wrapped translator sees them."""
        raise NotImplementedError  # an option defines it

    @property
    def core(self) -> TranslatorModule:
        """The translator without the options around it."""
        return self.inner.core

    def core_states(self, states_BTLS: Tensor) -> Tensor:
        """The states as the core reads them, behind the options around it."""
        return self.inner.core_states(self.changed(states_BTLS))

    @property
    def fitted_from(self) -> frozenset[str]:
        """What the wrapped translator needs."""
        return self.inner.fitted_from

    def fit(self, moments: Moments) -> None:
        """Fit the wrapped translator."""
        self.inner.fit(moments)

    @property
    def adds_onto_text(self) -> bool:
        """Whether the wrapped translator does."""
        return self.inner.adds_onto_text

    def trained_for(self, done: float) -> None:
        """Tell the wrapped translator."""
        self.inner.trained_for(done)

    def place(self, target: FrozenLM, text: Piece | None, soft_BKD: Tensor) -> list[Piece]:
        """What stands in the question's place by the wrapped translator."""
        return self.inner.place(target, text, soft_BKD)

    def read_by(self, target: FrozenLM) -> FrozenLM:
        """What reads the translator's."""
        return self.inner.read_by(target)

    def for_target(self, name: str, states_BTLS: Tensor, mask_BT: Tensor, *, rms: float) -> Tensor:
        """What the wrapped translator writes for another target."""
        return self.inner.for_target(name, self.changed(states_BTLS), mask_BT, rms=rms)

    def forward(self, states_BTLS: Tensor, mask_BT: Tensor) -> Tensor:
        """Soft tokens (B, K, D)."""
        return self.inner(self.changed(states_BTLS), mask_BT)


def check_stands_evenly(module: TranslatorModule, what: str) -> None:
    """Refuse a translator whose soft tokens stand elsewhere than what uses them takes for granted."""
    if not module.stands_evenly:
        raise ValueError(
            f"{what} the k-th of evenly spaced tokens, and this translator's stand elsewhere: set its picking to 'even' or "
            "'mean' and free_share to 0 (`bottlenecked.evenly`)"
        )


class OntoText(Option):
    """Hybrid conditioning: the question stays as text, and what the translator wrote is added onto it.

    It must be the outermost option. The loss `residual_answer` trains it so and the arm `bridged_with_text` judges it so; the
    arm `bridged` still shows what the soft tokens carry without the text.
    """

    @property
    def arm(self) -> str:
        """Beside the question as text."""
        return "bridged_with_text"

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the translator."""
        return self.translator.layers


class OntoTextModule(OptionModule):
    """The translator itself; it knows how its soft tokens are added onto the question's text."""

    def __init__(self, inner: TranslatorModule) -> None:
        super().__init__(inner)
        check_stands_evenly(inner.core, "hybrid conditioning adds soft token k at")

    def changed(self, states_BTLS: Tensor) -> Tensor:
        """The states as they are."""
        return states_BTLS

    @property
    def adds_onto_text(self) -> bool:
        """It does."""
        return True

    def place(self, target: FrozenLM, text: Piece | None, soft_BKD: Tensor) -> list[Piece]:
        """The text with the soft tokens added onto it; without a text the soft tokens alone."""
        return [target.soft_piece(soft_BKD)] if text is None else [self.onto(text, soft_BKD)]

    def onto(self, question: Piece, soft_BKD: Tensor) -> Piece:
        """The question with each soft token added at the token it stands for (see `anchor.picks`)."""
        raise NotImplementedError  # an option defines it


class LayerMixModule(OptionModule):
    """See `LayerMix`."""

    def __init__(self, config: LayerMix, inner: TranslatorModule) -> None:
        super().__init__(inner)
        start_ML = [[float(read == layer) for layer in config.layers] for read in config.translator.layers]
        self.weights = nn.Parameter(torch.tensor(start_ML).flatten())  # a vector: decay would pull it off identity
        self.read = len(start_ML)

    def changed(self, states_BTLS: Tensor) -> Tensor:
        """Mixtures (B, T, M, S)."""
        mixed_BTMS = torch.einsum("ml,btls->btms", self.weights.view(self.read, -1), states_BTLS)
        return F.rms_norm(mixed_BTMS.float(), mixed_BTMS.shape[-1:])


class ProjectedModule(OptionModule):
    """See `Projected`."""

    def __init__(self, source_dim: int, inner: TranslatorModule) -> None:
        super().__init__(inner)
        self.turn = zero_linear(source_dim, source_dim)  # what is added to the identity, so that decay pulls towards it

    def changed(self, states_BTLS: Tensor) -> Tensor:
        """Projected states, same shape."""
        return F.rms_norm(states_BTLS + self.turn(states_BTLS).float(), states_BTLS.shape[-1:])
