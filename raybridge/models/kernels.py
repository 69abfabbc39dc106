"""Functions of tensors in few kernels: on a GPU one that reads each tensor once, in the place of one for every operation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")


def in_few(function: Callable[..., T], device: torch.device) -> Callable[..., T]:
    """A function that reads its tensors as seldom as it can: on a GPU its operations are compiled into a few kernels."""
    return _compiled(function) if device.type == "cuda" else function


@cache
def _compiled(function: Callable[..., T]) -> Callable[..., T]:
    # The compiler tells its makers how it reduces over a vocabulary, once a kernel; a user has no use for it.
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled", module=r"torch\._inductor")
    return torch.compile(function, dynamic=True)
