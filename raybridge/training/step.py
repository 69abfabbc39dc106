"""One optimizer step of a translator, the same on one worker and on many.

A worker's share of the batch gives sums; divided by the counts of all workers they are its part of each term's value, and
the sum of the workers' gradients is the gradient of the global batch.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raybridge.data import Problem
from raybridge.evaluation.kept_source import Source
from raybridge.evaluation.models import autocast
from raybridge.losses import Loss, active, read_together
from raybridge.losses.bridge import Batch, Bridge
from raybridge.losses.other_target import check_other_targets
from raybridge.models import lm
from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import fetched
from raybridge.training.batches import Batches, tokens_of
from raybridge.training.gradient_cache import Share, Sums, shared
from raybridge.training.micro_batches import MicroBatches
from raybridge.translators import TranslatorModule
from raybridge.translators.optimizer import Optimizer, optimizer
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
class Pending:
    """A step that the device may still be at. tokens, interrupted: as of `Step`.

    told: waits for its numbers and checks them, so a refused step has moved the weights: whoever keeps them asks before.
    """

    told: Callable[[], Step]
    tokens: int
    interrupted: bool


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The translator, its optimizer and everything one step needs."""

    trial: Trial
    world: World
    batches: Batches
    module: TranslatorModule
    optimizer: Optimizer
    micro_batches: MicroBatches

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
                before=batches.asked.before,
                after=batches.asked.after,
                after_repeat=batches.repeat.after,
                before_repeat=None if batches.asked is batches.target else batches.repeat.before,
                lent=batches.lent,
                batch=batch,
                world=self.world,
                seed=self.trial.seed,
                step=step,
            )

        with autocast(self.world.device):
            soft_BKD = self.module(states_BTLS, mask_BT)
            of_others = {
                name: self.module.for_target(name, states_BTLS, mask_BT, rms=other.target.lm.embedding_rms)
                for name, other in self.batches.others.items()
            }
        own = in_place(self.batches, batch, soft_BKD)
        others = {name: in_place(other, batch.others[name], of_others[name]) for name, other in self.batches.others.items()}
        reader = self.module.read_by(own.target)
        lent = own.lent if reader is own.target else None  # what an adapted target reads depends on what is trained
        together = read_together(losses) and own.before_repeat is None
        return replace(own, target=reader, lent=lent, together=together, others=others)

    def step(self, step: int, *, measure: bool, interrupt: bool) -> Step:
        """One optimizer step (from 0), waited for. `measure` asks for each term's own gradient norm."""
        return self.launch(step, measure=measure, interrupt=interrupt).told()

    def launch(self, step: int, *, measure: bool, interrupt: bool) -> Pending:
        """One optimizer step, which the device is told of and not waited for: the host may go on to the next."""
        torch.manual_seed(self.trial.seed * 1_000_003 + step * self.world.size + self.world.rank)
        self.module.trained_for(step / self.trial.steps)
        batch = self.batches.at(step, self.world)
        losses = [loss for loss in self.trial.losses if active(loss, step, warmup=self.trial.warmup)]
        counts = self.world.sums([*(loss.count(batch) for loss in losses), tokens_of(batch), interrupt])
        check_counts(losses, counts, step)
        measure = measure or any(step == proving_step(loss, self.trial.warmup) for loss in losses)
        share = shared(self.bridge(batch, step, losses), compares=any(loss.compares for loss in losses))
        sums, met = self._passes(share, losses, counts[: len(losses)], apart=measure)
        norms = self._back(share, losses, sums, apart=measure)
        failed = sums.values.new_full((1,), float(met is not None))  # a tensor of a list would wait for the device
        values = self.world.add_up(torch.cat([sums.values, failed]))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.trial.clip)
        numbers = fetched(torch.cat([values, torch.stack([norm, *norms]).double()]))
        rate = learning_rate_share(step, warmup=self.trial.warmup, steps=self.trial.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.optimizer.step()
        soft_BKD, tokens, interrupted = share.written.soft_BKD.detach(), int(counts[-2]), counts[-1] > 0
        self.batches.prepare(step + 1, self.world)

        def told() -> Step:
            found = numbers().tolist()
            totals, (failed, gradient_norm), own = found[: len(losses)], found[len(losses) :][:2], found[len(losses) + 2 :]
            if failed:
                self.world.raise_any(met)
            check_finite(losses, totals, step)
            check_gradient(gradient_norm, step)
            terms = [
                Term(loss=loss, value=value, gradient=gradient)
                for loss, value, gradient in zip(losses, totals, own or [None] * len(losses), strict=True)
            ]
            check_moves(terms, step, warmup=self.trial.warmup)
            return Step(
                terms=terms,
                gradient_norm=gradient_norm,
                learning_rate=self.trial.learning_rate * rate,
                soft_BKD=soft_BKD,
                tokens=tokens,
                interrupted=interrupted,
            )

        return Pending(told=told, tokens=tokens, interrupted=interrupted)

    def _passes(
        self, share: Share, losses: Sequence[Loss], counts: Sequence[float], *, apart: bool
    ) -> tuple[Sums, Exception | None]:
        """What the micro-batches of this worker add up to; or nothing, and the error that every worker is to hear of."""
        try:
            return self.micro_batches.within(lambda cut: share.passes(cut, losses, counts, self.parameters, apart=apart)), None
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # told a step later, it would hold the tensors of its pass until then
            return Sums.nothing(share, losses, self.parameters, apart=apart), error

    def _back(self, share: Share, losses: Sequence[Loss], sums: Sums, *, apart: bool) -> list[Tensor]:
        """The step's gradient into `.grad`, summed over workers; the norms of the terms' own, none where they are not apart."""
        self.optimizer.zero_grad()
        objectives = [(loss,) for loss in losses] if apart else [tuple(losses)]
        norms: list[Tensor] = []
        whole: Tensor | None = None
        for number, (terms, gradients) in enumerate(zip(objectives, sums.gradients, strict=True), start=1):
            compares = any(loss.compares for loss in terms)
            parts = share.back(gradients, self.parameters, compares=compares, last=number == len(objectives))
            gradient = self.world.add_up(_flat(parts, self.parameters))
            if apart:
                norms.append(gradient.norm())
                gradient *= terms[0].weight
            whole = gradient if whole is None else whole.add_(gradient)
        assert whole is not None, "a step has an objective"
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


def first_module(trial: Trial, world: World, *, widths: tuple[int, int], target_rms: float) -> TranslatorModule:
    """The translator as it is drawn from the trial's seed, on the CPU: it is the same for every device.

    widths: of source and target.
    """
    torch.manual_seed(trial.seed)
    return trial.translator.build(*widths, target_rms=target_rms).to(world.device).train()


def build_trainer(
    trial: Trial,
    *,
    source: Source,
    target: FrozenLM,
    world: World,
    micro_batches: MicroBatches | None = None,
    problems: Sequence[Problem] | None = None,
    module: TranslatorModule | None = None,
) -> Trainer:
    """The trainer at step 0: the same weights on every worker. micro_batches: None reads a share at once, if it fits.

    problems: see `Batches`. module: what `first_module` gave, where somebody has asked.
    """
    if trial.batch % world.size:
        raise ValueError(f"trial {trial.name}: batch {trial.batch} cannot be shared evenly by {world.size} workers")
    check_other_targets(trial.translator, trial.losses, where=f"trial {trial.name}")
    others = {name: lm.load(name, device=world.device, beside=world.beside) for name in trial.translator.other_targets}
    batches = Batches(trial, source, target, others, problems)
    widths = source.width, target.width
    module = module or first_module(trial, world, widths=widths, target_rms=target.embedding_rms)
    groups = module.parameter_groups(learning_rate=trial.learning_rate, weight_decay=trial.weight_decay)
    micro_batches = micro_batches or MicroBatches(share=trial.batch // world.size, device=world.device, release=target.forget)
    moved_by = optimizer(trial.muon, groups, module.maps)
    return Trainer(trial=trial, world=world, batches=batches, module=module, optimizer=moved_by, micro_batches=micro_batches)
