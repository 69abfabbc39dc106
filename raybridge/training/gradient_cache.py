"""The gradient of a worker's share of a batch from as many passes of the target as it takes, the same whatever the cut.

The gradient cache of Gao et al. 2021 (arXiv:2101.06983): the translator writes the soft tokens of the whole share once; cut off
from it they are leaves, to which one micro-batch after another goes back through the target; what the leaves have added up goes
back through the translator, once. Between two micro-batches no worker asks anything of another, so each may need as many as it
does, and the graph of one is freed before the next begins.

Shapes: N problems of the global batch, B of this worker, K soft tokens, D target width, Y features of a source position.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raybridge.losses import Loss
from raybridge.losses.bridge import Bridge
from raybridge.losses.everyone import Everyone, mean_of_real
from raybridge.training.micro_batches import Cut


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What the micro-batches of a share add up to: each term's part of its value and, of each objective, the gradients."""

    values: Tensor
    gradients: list[list[Tensor | None]]

    @classmethod
    def nothing(cls, share: Share, losses: Sequence[Loss], parameters: Sequence[Tensor], *, apart: bool) -> Sums:
        """Before the first. apart: an objective a term; otherwise their weighted sum is the only one."""
        inputs = len(share.leaves) + len(parameters)
        values = torch.zeros(len(losses), dtype=torch.float64, device=share.written.soft_BKD.device)
        return cls(values=values, gradients=[[None] * inputs for _ in (losses if apart else range(1))])

    def __add__(self, other: Sums) -> Sums:
        gradients = [
            [added(*pair) for pair in zip(*objective, strict=True)]
            for objective in zip(self.gradients, other.gradients, strict=True)
        ]
        return Sums(values=self.values + other.values, gradients=gradients)


@dataclass(frozen=True, kw_only=True)
class Share:
    """A worker's share of a step: as the translator wrote it, and as the target reads it, its soft tokens cut off.

    leaves: the soft tokens of the own target, then of each other: those of all workers (N, K, D) where losses compare, of which
    the bridge that is read has its place, and otherwise this worker's (B, K, D).
    """

    written: Bridge
    read: Bridge
    leaves: list[Tensor]

    def passes(
        self, cut: Cut, losses: Sequence[Loss], counts: Sequence[float], parameters: Sequence[Tensor], *, apart: bool
    ) -> Sums:
        """Values and gradients, of the leaves and of the parameters that a loss uses itself, one micro-batch after another."""
        sums = Sums.nothing(self, losses, parameters, apart=apart)
        with ExitStack() as stack:
            for target in {one.target for one in before_targets(self.read)} if cut.recomputed else ():
                stack.enter_context(target.recomputing())
            for rows in cut.parts(len(self.read.soft_BKD)):
                sums += _differentiated(self.read.only(rows), losses, counts, [*self.leaves, *parameters], apart=apart)
        return sums

    def back(
        self, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], *, compares: bool, last: bool
    ) -> list[Tensor | None]:
        """Gradients of the parameters: what the losses that use them gave, and what goes back through the translator.

        compares: whether other workers have a part of the leaves' gradients. last: whether no other objective follows.
        """
        of_leaves, own = gradients[: len(self.leaves)], gradients[len(self.leaves) :]
        if compares:
            world = self.written.world
            parts = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(self.leaves, of_leaves, strict=True)]
            of_leaves = [world.add_up(part.contiguous()) for part in parts]
        place = slice(None) if self.read.gathered is None else self.read.place
        pairs = [
            (one.soft_BKD, g[place]) for one, g in zip(before_targets(self.written), of_leaves, strict=True) if g is not None
        ]
        if not pairs:
            return list(own)
        soft, given = zip(*pairs, strict=True)
        through = torch.autograd.grad(soft, parameters, given, retain_graph=not last, allow_unused=True)
        return [added(*pair) for pair in zip(own, through, strict=True)]


def before_targets(bridge: Bridge) -> list[Bridge]:
    """The bridge before the own target, then before each other."""
    return [bridge, *bridge.others.values()]


def shared(written: Bridge, *, compares: bool) -> Share:
    """The share of a bridge whose soft tokens the translator wrote. compares: whether a loss needs those of all workers."""
    states_NY = None
    if compares:
        states_NY = written.world.gather(mean_of_real(written.states_BTLS.flatten(2), written.mask_BT))
    read = [_cut_off(one, states_NY) for one in before_targets(written)]
    leaves = [one.soft_BKD if one.gathered is None else one.gathered.soft_NKD for one in read]
    return Share(written=written, read=replace(read[0], others=dict(zip(written.others, read[1:], strict=True))), leaves=leaves)


def _cut_off(bridge: Bridge, states_NY: Tensor | None) -> Bridge:
    """The same with soft tokens that are a leaf, or the place of these problems in one."""
    soft_BKD = bridge.soft_BKD.detach()
    if states_NY is None:
        return replace(bridge, soft_BKD=soft_BKD.requires_grad_())
    soft_NKD = bridge.world.gather(soft_BKD).requires_grad_()
    questions = bridge.target.text_piece(bridge.batch.target_questions)
    questions_ND = bridge.world.gather(mean_of_real(questions.embeds_BTD, questions.mask_BT))
    everyone = Everyone(soft_NKD=soft_NKD, questions_ND=questions_ND, states_NY=states_NY)
    return replace(bridge, soft_BKD=soft_NKD[bridge.place], gathered=everyone)


def _differentiated(
    bridge: Bridge, losses: Sequence[Loss], counts: Sequence[float], inputs: Sequence[Tensor], *, apart: bool
) -> Sums:
    """Values of the terms of one micro-batch, and the gradients of each objective; its graph ends with the call."""
    values = [attached(loss.total(bridge), bridge) / count for loss, count in zip(losses, counts, strict=True)]
    weighted = [loss.weight * value for loss, value in zip(losses, values, strict=True)]
    objectives = values if apart else [torch.stack(weighted).sum()]
    gradients: list[list[Tensor | None]] = [
        [*torch.autograd.grad(one, inputs, retain_graph=one is not objectives[-1], allow_unused=True)] for one in objectives
    ]
    return Sums(values=torch.stack([value.detach().double() for value in values]), gradients=gradients)


def attached(value: Tensor, bridge: Bridge) -> Tensor:
    """A value that no gradient leads back from, as one with a gradient of zero: `step.check_moves` then names its term."""
    return value if value.requires_grad else value + 0 * bridge.soft_BKD.sum()


def added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two gradients, either of which may not be there."""
    return other if one is None else one if other is None else one + other
