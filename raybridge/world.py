"""This process among the workers of a trial: what they add up, gather and agree on.

Alone (size 1) every operation is the identity, so the same training step runs with and without torch.distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Rows of all workers in rank order; the gradient of a row goes back to the worker that owns it."""

    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor) -> Tensor:
        ctx.rows = rows_BD.shape[0]
        parts = [torch.empty_like(rows_BD) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        start = dist.get_rank() * ctx.rows
        return whole[start : start + ctx.rows]


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank and number of the workers of one trial, and this worker's device."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """This worker's contiguous share of a global batch."""
        assert len(items) % self.size == 0, f"a batch of {len(items)} cannot be shared by {self.size} workers"
        each = len(items) // self.size
        return items[self.rank * each : (self.rank + 1) * each]

    def add_up(self, values: Tensor) -> Tensor:
        """Sum over workers, in place. No gradient."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, rows_BD: Tensor) -> Tensor:
        """Rows of all workers in rank order, with gradient. Every worker must have as many rows."""
        return _Gather.apply(rows_BD) if self.size > 1 else rows_BD

    def agree(self, decision: Any) -> Any:
        """What rank 0 decided."""
        if self.size > 1:
            box = [decision]
            dist.broadcast_object_list(box, src=0, device=self.device)
            return box[0]
        return decision
