"""What takes a translator's steps: AdamW, or Muon for its linear maps and AdamW for what is left.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) takes steps in all directions of a map's gradient, as large
in each. torch's is used, its steps scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from raybridge.config import typed

Group = dict[str, Any]  # parameters and how they are moved, as torch has it


class Optimizer(Protocol):
    """What training and checkpoints ask of an optimizer: what torch's offer."""

    @property
    def param_groups(self) -> list[Group]:
        """Parameters and how they are moved."""

    def zero_grad(self) -> None:
        """Forget all gradients."""

    def step(self) -> Any:
        """Move the parameters by their gradients."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: `state` by the number of a parameter, and `param_groups`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember that instead."""


class Together:
    """Several optimizers as one: the parameters of the first have the first numbers."""

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        self.members = members

    @property
    def param_groups(self) -> list[Group]:
        """Those of all."""
        return [group for member in self.members for group in member.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for member in self.members:
            member.zero_grad()

    def step(self) -> None:
        """Move all parameters."""
        for member in self.members:
            member.step()

    def state_dict(self) -> dict[str, Any]:
        """What all remember, by the number of a parameter among those of all."""
        numbered = zip(self._firsts, (member.state_dict()["state"] for member in self.members), strict=True)
        state = {first + number: values for first, of_member in numbered for number, values in of_member.items()}
        return {"state": state, "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember that instead; how parameters are moved stays as it is."""
        state, counts = state_dict["state"], self._counts
        for first, count, member in zip(self._firsts, counts, self.members, strict=True):
            own = {number - first: values for number, values in state.items() if first <= number < first + count}
            member.load_state_dict({"state": own, "param_groups": member.state_dict()["param_groups"]})

    @property
    def _counts(self) -> list[int]:
        return [sum(len(group["params"]) for group in member.param_groups) for member in self.members]

    @property
    def _firsts(self) -> list[int]:
        return list(accumulate(self._counts, initial=0))[:-1]


class StackedMuon(torch.optim.Muon):
    """torch's Muon, scaled to AdamW's steps, the maps of one shape at a time: one by one the host starts 30 kernels a map."""

    def __init__(self, groups: Sequence[Group], *, momentum: float) -> None:
        super().__init__(groups, momentum=momentum, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all maps that have a gradient."""
        assert closure is None, "the gradients are there"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for alike in by_shape.values():
                self._move(alike, group)

    def _move(self, maps: list[Tensor], group: Group) -> None:
        """Move maps of one shape."""
        for p in maps:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients = [p.grad for p in maps if p.grad is not None]
        buffers = [self.state[p]["momentum_buffer"] for p in maps]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        directions = torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))
        moved = orthogonal(directions, group["ns_coefficients"], steps=group["ns_steps"], eps=group["eps"]).float()
        torch._foreach_mul_(maps, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(maps, moved.unbind(0), alpha=-group["lr"] * 0.2 * max(maps[0].shape) ** 0.5)


def orthogonal(maps: Tensor, coefficients: tuple[float, float, float], *, steps: int, eps: float) -> Tensor:
    """Each of several maps (N, E, D) with singular values near 1, in bf16: the iteration of Newton and Schulz."""
    if maps.shape[1] > maps.shape[2]:
        return orthogonal(maps.mT, coefficients, steps=steps, eps=eps).mT
    a, b, c = coefficients
    x = maps.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Muon for a translator's linear maps. learning_rate: their peak. momentum: share of a step's direction that the next has.

    Vectors, gates and what is no linear map, queries above all, are moved by AdamW at the trial's own rate. A map decays by
    this rate times the trial's weight_decay.
    """

    VERSION: ClassVar[int] = 1

    learning_rate: float
    momentum: float = 0.95

    def __post_init__(self) -> None:
        typed(self)
        if not self.learning_rate > 0 or not 0 <= self.momentum < 1:
            given = f"{self.learning_rate} and {self.momentum}"
            raise ValueError(f"muon: learning_rate must be above 0, and momentum at least 0 and below 1, not {given}")

    def build(self, groups: Sequence[Group], maps: Collection[Tensor]) -> Optimizer:
        """The optimizer of these groups, in which Muon moves the maps. A group's `peak` is its rate after warm-up."""
        theirs = {id(one) for one in maps}
        rate = {"lr": self.learning_rate, "peak": self.learning_rate}
        moved = [group | rate for group in _only(groups, lambda p: id(p) in theirs)]
        left = _only(groups, lambda p: id(p) not in theirs)
        members: list[torch.optim.Optimizer] = []
        if moved:
            members.append(StackedMuon(moved, momentum=self.momentum))
        if left:
            members.append(torch.optim.AdamW(left, fused=True))
        return Together(members)


def _only(groups: Sequence[Group], wanted: Callable[[Tensor], bool]) -> list[Group]:
    """The groups with those of their parameters that are wanted; none is empty."""
    some = [group | {"params": [p for p in group["params"] if wanted(p)]} for group in groups]
    return [group for group in some if group["params"]]


def optimizer(muon: Muon | None, groups: Sequence[Group], maps: Collection[Tensor]) -> Optimizer:
    """What moves these groups of parameters; without Muon AdamW moves all. maps: those among them that are linear maps."""
    peaked = [group | {"peak": group["lr"]} for group in groups]
    return muon.build(peaked, maps) if muon else torch.optim.AdamW(peaked, fused=True)
