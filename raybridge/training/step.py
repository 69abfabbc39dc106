"""One optimizer step of a translator, the same on one worker and on many.

A worker's share of the batch gives sums; divided by the counts of all workers they are its part of each term's value, and
the sum of the workers' gradients is the gradient of the global batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raybridge.evaluation.models import autocast
from raybridge.losses import Loss, active, read_together
from raybridge.losses.bridge import Batch, Bridge
from raybridge.losses.other_target import check_other_targets
from raybridge.models import lm
from raybridge.models.frozen import FrozenLM
from raybridge.training.batches import Batches, tokens_of
from raybridge.translators import TranslatorModule
from raybridge.trial import Trial
from raybridge.world import World

PROVING_STEPS = 3  # a term must have moved the translator by its third active step


@dataclass(frozen=True, kw_only=True)
class Term:
    """One loss at one step: its value over the global batch, and its gradient norm where it was measured."""

    loss: Loss
    value: float
    gradient: float | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one optimizer step did. interrupted: rank 0 was asked to end, and every worker knows it."""

    terms: list[Term]
    gradient_norm: float
    learning_rate: float
    soft_BKD: Tensor
    tokens: int
    interrupted: bool

    @property
    def loss(self) -> float:
        """The weighted sum of the terms."""
        return sum(term.loss.weight * term.value for term in self.terms)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The translator, its optimizer and everything one step needs."""

    trial: Trial
    world: World
    batches: Batches
    module: TranslatorModule
    optimizer: torch.optim.Optimizer

    @property
    def parameters(self) -> list[Tensor]:
        """The weights that train, in a fixed order."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def bridge(self, batch: Batch, step: int, losses: Sequence[Loss]) -> Bridge:
        """Soft tokens of a batch, in their place, before these losses."""
        states_BTLS, mask_BT = self.batches.states(batch)

        def in_place(batches: Batches, batch: Batch, soft_BKD: Tensor) -> Bridge:
            return Bridge(
                module=self.module,
                states_BTLS=states_BTLS,
                mask_BT=mask_BT,
                soft_BKD=soft_BKD,
                target=batches.target.lm,
                before=batches.target.before,
                after=batches.target.after,
                after_repeat=batches.repeat.after,
                batch=batch,
                world=self.world,
                seed=self.trial.seed,
                step=step,
            )

        with autocast(self.world.device):
            own = in_place(self.batches, batch, self.module(states_BTLS, mask_BT))
            others = {}
            for name, other in self.batches.others.items():
                soft_BKD = self.module.for_target(name, states_BTLS, mask_BT, rms=other.target.lm.embedding_rms)
                others[name] = in_place(other, batch.others[name], soft_BKD)
        return replace(own, together=read_together(losses), others=others)

    def step(self, step: int, *, measure: bool, interrupt: bool) -> Step:
        """One optimizer step (from 0). `measure` asks for each term's own gradient norm."""
        torch.manual_seed(self.trial.seed * 1_000_003 + step * self.world.size + self.world.rank)
        batch = self.batches.at(step, self.world)
        losses = [loss for loss in self.trial.losses if active(loss, step, warmup=self.trial.warmup)]
        counts = self._over_workers([*(loss.count(batch) for loss in losses), tokens_of(batch), interrupt])
        check_counts(losses, counts, step)
        bridge = self.bridge(batch, step, losses)
        values = [attached(loss.total(bridge), bridge) / count for loss, count in zip(losses, counts, strict=False)]
        measure = measure or any(step == proving_step(loss, self.trial.warmup) for loss in losses)
        norms = self._backward(losses, values, measure=measure)
        totals = self._over_workers([value.item() for value in values])  # behind the passes: reading them waits for the device
        check_finite(losses, totals, step)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.trial.clip).item()
        check_gradient(norm, step)
        share = learning_rate_share(step, warmup=self.trial.warmup, steps=self.trial.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.step()
        terms = [Term(loss=loss, value=v, gradient=g) for loss, v, g in zip(losses, totals, norms, strict=True)]
        check_moves(terms, step, warmup=self.trial.warmup)
        return Step(
            terms=terms,
            gradient_norm=norm,
            learning_rate=self.trial.learning_rate * share,
            soft_BKD=bridge.soft_BKD.detach(),
            tokens=int(counts[-2]),
            interrupted=counts[-1] > 0,
        )

    def _over_workers(self, numbers: Sequence[float]) -> list[float]:
        """Each number summed over the workers."""
        return self.world.add_up(
            torch.tensor(list(map(float, numbers)), device=self.world.device, dtype=torch.float64)
        ).tolist()

    def _backward(self, losses: Sequence[Loss], values: Sequence[Tensor], *, measure: bool) -> list[float | None]:
        """Gradient of the weighted sum into `.grad`, summed over workers; the norm of each term's own gradient if measured."""
        self.optimizer.zero_grad()
        if not measure:
            total = torch.stack([loss.weight * value for loss, value in zip(losses, values, strict=True)]).sum()
            total.backward()
            self._set_gradients(self.world.add_up(_flat([p.grad for p in self.parameters], self.parameters)))
            return [None] * len(losses)
        norms: list[float | None] = []
        whole = torch.zeros((), device=self.world.device)
        for loss, value in zip(losses, values, strict=True):
            parts = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
            gradient = self.world.add_up(_flat(parts, self.parameters))
            norms.append(gradient.norm().item())
            whole = whole + loss.weight * gradient
        self._set_gradients(whole)
        return norms

    def _set_gradients(self, flat: Tensor) -> None:
        for p, part in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
            p.grad = part.view_as(p)


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(gradients, parameters, strict=True)]
    )


def learning_rate_share(step: int, *, warmup: int, steps: int) -> float:
    """Share of the peak learning rate at a step (from 0): linear up over warm-up, linear down to zero at the end."""
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / (steps - warmup)


def attached(value: Tensor, bridge: Bridge) -> Tensor:
    """A value that no gradient leads back from, as one with a gradient of zero: `check_moves` then names its term."""
    return value if value.requires_grad else value + 0 * bridge.soft_BKD.sum()


def check_counts(losses: Sequence[Loss], counts: Sequence[float], step: int) -> None:
    """Refuse a term that finds nothing to sum over in the whole batch."""
    for loss, count in zip(losses, counts, strict=False):
        if count <= 0:
            raise ValueError(f"loss term {loss.name!r} finds nothing in the batch of step {step + 1} that it could measure")


def check_finite(losses: Sequence[Loss], values: Sequence[float], step: int) -> None:
    """Refuse a loss that is no number, by its step and term."""
    for loss, value in zip(losses, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(
                f"loss term {loss.name!r} is {value} at step {step + 1}; a smaller learning_rate or clip may keep it finite"
            )


def check_gradient(norm: float, step: int) -> None:
    """Refuse a gradient that would make every weight no number, while the loss still is one."""
    if not math.isfinite(norm):
        raise ValueError(f"the gradient is {norm} at step {step + 1}; a smaller learning_rate may keep it finite")


def proving_step(loss: Loss, warmup: int) -> int:
    """The step at which a term must have moved the translator."""
    return loss.starts(warmup=warmup) + (PROVING_STEPS - 1) * loss.every


def check_moves(terms: Sequence[Term], step: int, *, warmup: int) -> None:
    """Refuse a term whose gradient is still zero when its first active steps are over."""
    for term in terms:
        if step == proving_step(term.loss, warmup) and term.gradient == 0:
            raise ValueError(
                f"loss term {term.loss.name!r} is on (weight {term.loss.weight}) and leaves every weight of the translator "
                f"without gradient after {PROVING_STEPS} active steps: it trains nothing"
            )


def build_trainer(trial: Trial, *, source: FrozenLM, target: FrozenLM, world: World) -> Trainer:
    """The trainer at step 0: the same weights on every worker."""
    if trial.batch % world.size:
        raise ValueError(f"trial {trial.name}: batch {trial.batch} cannot be shared evenly by {world.size} workers")
    check_other_targets(trial.translator, trial.losses, where=f"trial {trial.name}")
    names = trial.translator.other_targets
    others = {name: source if name == trial.source else lm.load(name, device=world.device) for name in names}
    batches = Batches(trial, source, target, others)
    torch.manual_seed(trial.seed)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms).to(world.device).train()
    groups = module.parameter_groups(learning_rate=trial.learning_rate, weight_decay=trial.weight_decay)
    for group in groups:
        group["peak"] = group["lr"]
    optimizer = torch.optim.AdamW(groups, fused=True)
    return Trainer(trial=trial, world=world, batches=batches, module=module, optimizer=optimizer)
