"""A second device where there is none: tensors that compute on the CPU and say that they lie elsewhere.

As on a real one, an operation on tensors of two devices is an error unless one of them is a number, and only `to` crosses over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

ELSEWHERE = torch.device("meta")
CROSSES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class There(Tensor):
    """A tensor that lies elsewhere."""

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        there = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=ELSEWHERE
        )
        there.here = here
        return there

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, kinds, args=(), told=None):
        return _computed(function, args, told)


class Elsewhere(TorchDispatchMode):
    """Within it the second device is there."""

    def __torch_dispatch__(self, function, kinds, args=(), told=None):
        return _computed(function, args, told)


def _computed(function: Any, args: tuple[Any, ...], told: dict[str, Any] | None) -> Any:
    """What an operation makes, where it makes it."""
    told = dict(told or {})
    given, _ = tree_flatten((args, told))
    assert not any(type(one) is Tensor and one.device == ELSEWHERE for one in given), "a tensor without its content"
    away = [one for one in given if isinstance(one, There)]
    home = [one for one in given if isinstance(one, Tensor) and not isinstance(one, There) and one.dim()]
    if away and home and function not in CROSSES:
        raise RuntimeError(f"{function}: tensors of two devices")
    asked = told.get("device")
    there = bool(away) if asked is None else asked == ELSEWHERE
    if asked is not None:
        told["device"] = torch.device("cpu")
    made = function(*_here(args), **_here(told))
    if function._schema.is_mutable:
        return args[0]
    return tree_map_only(Tensor, There, made) if there else made


def _here(value: Any) -> Any:
    return tree_map_only(There, lambda one: one.here, value)


def sent(module: torch.nn.Module) -> None:
    """Have the weights of a module lie elsewhere."""
    for one in module.modules():
        for name, weight in list(one._parameters.items()):
            if weight is not None:
                one._parameters[name] = There(weight.detach())
        for name, buffer in list(one._buffers.items()):
            if buffer is not None:
                one._buffers[name] = There(buffer)
