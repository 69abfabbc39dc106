"""What is added to the hidden states that enter a model's layers, during the passes within a context.

Shapes: B batch, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn


@contextmanager
def injecting(addends: Sequence[tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """Passes within it add to what enters these layers."""
    with ExitStack() as hooks:
        for layer, addend_BTD in addends:
            hooks.enter_context(layer.register_forward_pre_hook(_adding(addend_BTD)))
        yield


def _adding(addend_BTD: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that adds to a layer's input, in units of the input's RMS at each position."""

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTD = args[0].float()
        rms_BT1 = (hidden_BTD.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return (hidden_BTD + rms_BT1 * addend_BTD.to(hidden_BTD.device)).to(args[0].dtype), *args[1:]

    return hook
