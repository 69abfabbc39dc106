"""Where the parts of a model lie that several devices hold: its ends on the first, its layers in their order over all of them.

A pass enters on the first device and leaves there, embeddings and head being at home on it; only what layers elsewhere are
given crosses over. So whoever calls a model sees one device. It changes no number but by rounding, and is in no identity.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import PreTrainedConfig

from raybridge.models.head import body_of
from raybridge.models.layers import layers_of
from raybridge.models.shape import without_weights


def spread(ends: int, layers: Sequence[int], cards: int) -> list[int]:
    """How many layers each card holds, in their order, so that the fullest holds as little as can be, and the first least.

    ends: bytes of embeddings and head, which the first card holds besides. layers: bytes of each. The first also has what
    comes and goes at a model's ends: soft tokens, their translator, logits.
    """
    totals = [0, *accumulate(layers)]
    runs = {totals[stop] - totals[start] for stop in range(len(totals)) for start in range(stop + 1)}
    limits = sorted({*runs, *(ends + total for total in totals)})
    least = bisect_left(limits, True, key=lambda limit: _filled(ends, layers, cards, limit) is not None)
    found = _filled(ends, layers, cards, limits[least])
    assert found is not None, "the first card alone can hold everything at the highest limit"
    return found


def _filled(ends: int, layers: Sequence[int], cards: int, limit: int) -> list[int] | None:
    """How many layers each card holds, if the last ones are filled up to a limit; None where the first would hold more."""
    counts, left = [0] * cards, len(layers)
    for card in range(cards - 1, 0, -1):
        held = 0
        while left and held + layers[left - 1] <= limit:
            left -= 1
            held += layers[left]
            counts[card] += 1
    counts[0] = left
    return counts if ends + sum(layers[:left]) <= limit else None


def device_map(
    config: PreTrainedConfig, devices: Sequence[torch.device], layer_bytes: Callable[[nn.Module], int]
) -> dict[str, torch.device]:
    """The device of each part of a model of this shape, as `from_pretrained` takes it. layer_bytes: of a layer's weights."""
    model = without_weights(config)
    layers = layers_of(body_of(model), config.get_text_config().num_hidden_layers)
    path = next(name for name, module in model.named_modules() if module is layers)
    sizes = [layer_bytes(layer) for layer in layers]
    counts = spread(layer_bytes(model) - sum(sizes), sizes, len(devices))
    places = [device for device, count in zip(devices, counts, strict=True) for _ in range(count)]
    held = [name for name, _ in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))]
    ends = [_part(name, path) for name in held if not name.startswith(f"{path}.")]
    return dict.fromkeys(ends, devices[0]) | {f"{path}.{number}": place for number, place in enumerate(places)}


def _part(name: str, layers: str) -> str:
    """The module that holds a weight; the weight itself where that module holds the layers as well."""
    module = name.rpartition(".")[0]
    return name if not module or f"{layers}.".startswith(f"{module}.") else module


def put(model: Any, parts: dict[str, torch.device]) -> None:
    """Put the parts of a model where they belong, as far as they are not there, and let its passes cross over."""
    unhook(model)
    for name, device in parts.items():
        *above, own = name.split(".")
        owner = model.get_submodule(".".join(above))
        part = getattr(owner, own)
        if isinstance(part, nn.Module):
            part.to(device)
        else:
            part.data = part.data.to(device)
    layers = layers_of(body_of(model), model.config.get_text_config().num_hidden_layers)
    cross(layers, [next(layer.parameters()).device for layer in layers], home=model.get_input_embeddings().weight.device)


def unhook(model: Any) -> None:
    """Take off what a model may have that was read straight to devices: it would look at every pass where its tensors are."""
    from accelerate.hooks import remove_hook_from_module  # half a second of every process that reads no model so

    hooked = [module for module in model.modules() if hasattr(module, "_hf_hook")]
    remove_hook_from_module(model, recurse=True)
    for module in hooked:  # a forward of their own is bound to them, and a copy of a model would run the model itself
        vars(module).pop("forward", None)


def cross(layers: nn.ModuleList, places: Sequence[torch.device], *, home: torch.device) -> None:
    """Have what layers away from home are given brought to them, and what the last of them makes brought home."""
    away = [(layer, place) for layer, place in zip(layers, places, strict=True) if place != home]
    hooks = {place: bringing(place) for _, place in away}
    for layer, place in away:
        layer.register_forward_pre_hook(hooks[place], with_kwargs=True)
    if away:
        away[-1][0].register_forward_hook(lambda _, args, made: moved(made, home, None))


def bringing(device: torch.device) -> Callable[..., tuple[Any, Any]]:
    """A hook that brings what a layer is given to a device. What all layers of a pass are given, such as masks, comes once."""
    brought = WeakTensorKeyDictionary()

    def hook(_: nn.Module, args: tuple[Any, ...], told: dict[str, Any]) -> tuple[Any, Any]:
        return moved(args, device, brought), moved(told, device, brought)

    return hook


def moved(value: Any, device: torch.device, brought: WeakTensorKeyDictionary | None) -> Any:
    """A value whose tensors, as deep as tuples, lists and dicts go, are on a device; others, such as caches, are as they are.

    brought: the tensors without a gradient that were moved before and have not changed since.
    """
    if isinstance(value, Tensor):
        return _moved(value, device, brought)
    if type(value) in (tuple, list):
        return type(value)(moved(one, device, brought) for one in value)
    if type(value) is dict:
        return {name: moved(one, device, brought) for name, one in value.items()}
    return value


def _moved(tensor: Tensor, device: torch.device, brought: WeakTensorKeyDictionary | None) -> Tensor:
    if tensor.device == device:
        return tensor
    if brought is None or tensor.requires_grad:
        return tensor.to(device)
    version, there = brought.get(tensor, (None, None))
    if there is None or version != tensor._version:
        there = tensor.to(device)
        brought[tensor] = tensor._version, there
    return there
