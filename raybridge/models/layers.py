"""The layers of a causal LM: found, their inputs read on the way, and computed again in the backward pass.

Shapes: B batch, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raybridge.models.attention import attending


def layers_of(body: nn.Module, depth: int) -> nn.ModuleList:
    """The layers of a body, in their order. ValueError where it has no list of as many."""
    found = next((one for one in body.modules() if isinstance(one, nn.ModuleList) and len(one) == depth), None)
    if found is None:
        raise ValueError(f"{type(body).__name__} has no list of its {depth} layers")
    return found


def positionwise(part: nn.Module) -> bool:
    """Whether a part of a layer sees each position alone, and all of them alike: no attention, no experts to choose from."""
    inner = list(part.modules())
    return not any(hasattr(one, "layer_idx") or isinstance(one, nn.ModuleList) for one in inner) and not hasattr(part, "gate")


@contextmanager
def reading(layers: nn.ModuleList, wanted: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """A pass within it leaves what enters these layers (B, T, D) in a dict. No other hidden state outlives its layer."""
    states: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for number in wanted:
            hooks.enter_context(layers[number].register_forward_pre_hook(_keeping(states, number), with_kwargs=True))
        yield states


def _keeping(states: dict[int, Tensor], number: int) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Any]], None]:
    """A hook that keeps a layer's input."""

    def hook(_: nn.Module, args: tuple[Tensor, ...], told: dict[str, Any]) -> None:
        states[number] = args[0] if args else told["hidden_states"]

    return hook


@contextmanager
def recomputing(model: Any, layers: nn.ModuleList) -> Iterator[None]:
    """A pass within it keeps the inputs of layers alone; the rest is computed again in the backward pass."""
    own = list(layers)
    for number, layer in enumerate(own):
        layers[number] = _Recomputed(model, layer)
    try:
        yield
    finally:
        for number, layer in enumerate(own):
            layers[number] = layer


class _Recomputed(nn.Module):
    """Stands in a layer's place."""

    def __init__(self, model: Any, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self._model = (model,)  # in a tuple it is no child

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **told: Any) -> Any:
        (model,) = self._model
        name = model.config.get_text_config()._attn_implementation  # the backward pass comes when the model attends as usual

        def run(*args: Any, **told: Any) -> Any:
            with attending(model, name):
                return self.layer(*args, **told)

        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **told)
