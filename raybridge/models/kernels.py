"""Functions of tensors in few kernels: on a GPU one that reads each tensor once, in the place of one for every operation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def in_few(function: Callable[..., T], device: torch.device, *, along: int | None = None) -> Callable[..., T]:
    """A function that reads its tensors as seldom as it can: on a GPU its operations are compiled into a few kernels.

    along: the one dimension whose size differs from call to call; where any may, a kernel divides to find each number's place.
    """
    return _compiled(function, along) if device.type == "cuda" else function


@cache
def _compiled(function: Callable[..., T], along: int | None) -> Callable[..., T]:
    # The compiler tells its makers how it reduces over a vocabulary, once a kernel; a user has no use for it.
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled", module=r"torch\._inductor")
    if along is None:
        return torch.compile(function, dynamic=True)
    compiled = torch.compile(function)

    def called(*tensors: Tensor) -> T:
        for tensor in tensors:
            torch._dynamo.maybe_mark_dynamic(tensor, along)
        return compiled(*tensors)

    return called
