"""POCKET, SMALL, FULL: complete base trials, the resources they want, and what these become on a machine.

Each base trial has the translator that carried most where translators were compared (docs/LOG.md): the pocket pair, and
SmolLM2-135M on a GPU, which stands for the others until somebody has compared them there. The pair of `small` can do the task
that it is measured by; SmolLM2 to itself, which cannot, is the sweep `smollm`. It learns from all of the target's own answers,
right or wrong, and from how the target that reads the text predicts them: what crosses is judged, and no arithmetic taught.
Prompt contrast is not among the losses: it widens the difference to `shuffled`, mostly by making the wrong soft tokens worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from evaluators.gsm8k import GSM8K
from evaluators.pocket import Pocket
from evaluators.squad import Squad
from evaluators.svamp import Svamp
from raybridge.config import typed
from raybridge.data.texts import Mixture, OtherNumbers, Questions, Sentences, WorkedAnswers
from raybridge.errors import unknown
from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.distillation import TextKL
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.stopping import Stopping
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.trial import OwnAnswers, Trial

DRIVER_CPUS = 0.001  # of a trial's own driver, as Ray counts, which must be asked for some
# Of a worker on a GPU: four cores, less what drivers take, or they would cost a trial where cores divide exactly. There are
# two drivers a trial at most, and Ray may put those of many nodes on one.
WORKER_CPUS = 3.9


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of a cluster. name: what a person knows it by; its address, unless `ray start` was told another."""

    id: str
    name: str
    gpus: int
    cpus: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to run on. told: whether NUM_GPUS says how many GPUs there are, and with that a trial's workers.

    nodes: the machines of a cluster; none where all is of one.
    """

    gpus: int
    cpus: float
    cluster: bool = False
    told: bool = False
    nodes: tuple[Node, ...] = ()

    def groups(self, size: int) -> int:
        """How many times so many GPUs of one machine there are."""
        return min(self.gpus // size, sum(gpus // size for gpus, _ in self._each()))

    def room(self, gpus: int, cpus: float) -> int:
        """How many workers can be there at once that take so many GPUs and CPUs of one machine each."""
        if not gpus:
            return sum(int(has / cpus) for _, has in self._each())
        return min(self.gpus // gpus, sum(min(there // gpus, int(has / cpus)) for there, has in self._each()))

    def _each(self) -> list[tuple[int, float]]:
        return [(node.gpus, node.cpus) for node in self.nodes] or [(self.gpus, self.cpus)]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a scale asks of a machine. Never part of a trial's identity.

    workers: training workers a trial; gpus_per_model: over which a worker, or a replica, lays each of its models, 0 for CPUs;
    replicas: frozen replicas that evaluate for all trials; threads: torch threads a process on CPU. ahead: trials whose drivers
    may run beside those that have devices: they wait for some, or have given theirs back and are tested. states_budget: bytes
    of disk that states of sources may take; None for a share.
    """

    VERSION: ClassVar[int] = 1

    workers: int
    gpus_per_model: int
    cpus_per_worker: float
    replicas: int
    concurrent_trials: int
    threads: int
    ahead: int = 0
    states_budget: int | None = None

    def __post_init__(self) -> None:
        typed(self)
        if self.workers < 1 or self.replicas < 1 or self.concurrent_trials < 1 or self.threads < 1:
            raise ValueError("workers, replicas, concurrent trials and threads must each be at least 1")
        if self.gpus_per_model < 0:
            raise ValueError(f"a model lies on one GPU, on several or on none, not on {self.gpus_per_model}")

    @property
    def device(self) -> str:
        """What computes, as torch calls its kind."""
        return "cuda" if self.gpus_per_model else "cpu"

    @property
    def gpus(self) -> int:
        """Of a trial."""
        return self.workers * self.gpus_per_model

    @property
    def cpus(self) -> float:
        """Of a trial and its driver."""
        return self.workers * self.cpus_per_worker + DRIVER_CPUS

    def on(self, machine: Machine, *, workers: int | None = None, concurrent: int | None = None) -> Resources:
        """What these become on a machine: as many trials at once as fit, and a replica on every GPU, or group of them.

        workers, concurrent: what was asked for. Without, a trial has the scale's workers, or where there is room for fewer the
        most of them by which every batch divides that the scale's workers can share. ValueError where more trials are asked
        for than fit.
        """
        groups = machine.groups(self.gpus_per_model) if self.gpus_per_model else 0
        room = machine.room(self.gpus_per_model, self.cpus_per_worker)
        if workers is None and self.gpus_per_model and room:
            workers = max(n for n in range(1, self.workers + 1) if self.workers % n == 0 and n <= room)
        of_trial = replace(self, workers=workers or self.workers)
        fits = min(int(machine.cpus / of_trial.cpus), room // of_trial.workers)
        fits = max(fits, 1)  # what cannot run at all is refused by whoever starts it
        if concurrent is not None and concurrent > fits:
            raise ValueError(
                f"--concurrent {concurrent}: a trial takes {of_trial.gpus} GPU(s) and {of_trial.cpus:g} CPU(s), and there are "
                f"{machine.gpus} and {machine.cpus:g}; at most {fits} run at once"
            )
        at_once = fits if of_trial.gpus else min(fits, self.concurrent_trials)
        replicas = max(groups, 1) if of_trial.gpus else self.replicas
        count = concurrent or at_once
        bound = of_trial.gpus > 0 and count == groups // of_trial.workers  # else one more would not wait, but run
        return replace(of_trial, concurrent_trials=count, replicas=replicas, ahead=count if bound else 0)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A base trial that sweeps derive from, and what it runs on."""

    name: str
    trial: Trial
    resources: Resources


POCKET = Scale(
    name="pocket",
    trial=Trial(
        name="base",
        source="pocket:source",
        target="pocket:target",
        translator=Bottlenecked(
            soft_tokens=32, layers=(0, 1, 2, 4), width=128, depth=2, heads=4, picking="salient", free_share=0.25
        ),
        losses=(AnswerNLL(), Reconstruction(), InfoNCE()),
        evaluator=Pocket(),
        steps=120,
        batch=32,
        learning_rate=2e-3,
        warmup=12,
        eval_every=30,
        dev_problems=200,
        test_problems=200,
    ),
    resources=Resources(workers=1, gpus_per_model=0, cpus_per_worker=0.5, replicas=1, concurrent_trials=2, threads=1),
)

SMALL = Scale(
    name="small",
    trial=Trial(
        name="base",
        source="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        target="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        translator=Bottlenecked(soft_tokens=16, layers=(0, 2, 4, 14, 28), width=768, depth=4, picking="mean"),
        losses=(AnswerNLL(), Reconstruction(), InfoNCE(), TextKL(weight=1.0)),
        evaluator=GSM8K(),
        steps=600,
        batch=64,
        learning_rate=1e-3,
        warmup=60,
        eval_every=150,
        dev_problems=200,
        test_problems=None,
        stopping=Stopping(degradation=None),
        mixture=Mixture(
            parts=(
                OtherNumbers(share=0.25),
                Sentences(share=0.125, evaluator=Squad()),
                Questions(share=0.0625),
                WorkedAnswers(share=0.0625),
            ),
            held_out=(Svamp(), Squad()),
        ),
        own_answers=OwnAnswers(right=False),
        exemplars=True,
    ),
    resources=Resources(workers=1, gpus_per_model=1, cpus_per_worker=WORKER_CPUS, replicas=1, concurrent_trials=1, threads=4),
)

FULL = Scale(
    name="full",
    trial=Trial(
        name="base",
        source="mistralai/Mistral-7B-Instruct-v0.3",
        target="meta-llama/Llama-3.1-8B-Instruct",
        translator=Bottlenecked(soft_tokens=64, layers=(0, 2, 4, 16, 32), width=1024, depth=8, heads=16, picking="mean"),
        losses=(AnswerNLL(), Reconstruction(), InfoNCE()),
        evaluator=GSM8K(),
        steps=3000,
        batch=32,
        learning_rate=1e-4,
        warmup=300,
        eval_every=250,
        dev_problems=500,
        test_problems=None,
        stopping=Stopping(patience=5, degradation=0.05),
    ),
    resources=Resources(workers=4, gpus_per_model=1, cpus_per_worker=WORKER_CPUS, replicas=4, concurrent_trials=1, threads=4),
)

SCALES = (POCKET, SMALL, FULL)


def choose(
    machine: Machine,
    name: str | None,
    *,
    gpus: int | None = None,
    gpus_per_model: int | None = None,
    concurrent: int | None = None,
    states_budget: float | None = None,
) -> tuple[Scale, str]:
    """The scale that was asked for, or what a machine can carry, with its resources there; and what was chosen and why.

    gpus: of a trial, that were asked for; gpus_per_model: of a worker. concurrent: trials at once. states_budget: GB.
    """
    known = {scale.name: scale for scale in SCALES}
    if name is not None and name not in known:
        raise unknown("scale", name, known)
    carried = machine.gpus if gpus is None else gpus
    fitting = FULL if carried >= FULL.resources.workers else SMALL if carried > 0 else POCKET
    scale = known[name] if name else fitting
    wanted = scale.resources
    for option, count in (("--gpus", gpus), ("--gpus-per-model", gpus_per_model)):
        if count is not None and not wanted.gpus_per_model:
            raise ValueError(
                f"{option} {count}: scale {scale.name} uses none; leave {option} out, or type --scale small or --scale full"
            )
    for option, least in (("--gpus", gpus), ("--gpus-per-model", gpus_per_model), ("--concurrent", concurrent)):
        if least is not None and least < 1:
            raise ValueError(f"{option} must be at least 1 at scale {scale.name}, not {least}")
    wanted = replace(wanted, gpus_per_model=gpus_per_model or wanted.gpus_per_model)
    told = machine.told and wanted.gpus_per_model and machine.gpus
    resources = wanted.on(machine, workers=workers_on(gpus or (machine.gpus if told else 0), wanted), concurrent=concurrent)
    if states_budget is not None:
        if not 0 <= states_budget < float("inf"):
            raise ValueError(f"--states-budget is a number of GB from 0 on, not {states_budget}")
        resources = replace(resources, states_budget=int(states_budget * 1e9))
    where, carrier = ("on the cluster", "the cluster") if machine.cluster else ("here", "this machine")
    why = "asked for" if name else f"what {carrier if gpus is None else f'--gpus {gpus}'} can carry"
    each = resources.gpus_per_model
    groups = machine.groups(each) if each else 0
    short = "CPUs" if not each or machine.room(each, resources.cpus_per_worker) < groups else "GPUs"
    fewer = f" of {wanted.workers}, for want of {short}" if resources.workers < wanted.workers else ""
    workers = " (--gpus)" if gpus else " (NUM_GPUS)" if told else fewer
    spread = f", a model over {resources.gpus_per_model} GPUs" if resources.gpus_per_model > 1 else ""
    at_once = " (--concurrent)" if concurrent else ""
    return replace(scale, resources=resources), (
        f"scale {scale.name} ({why}; {machine.gpus} GPU(s) {where}): {resources.workers} worker(s) a trial{workers}{spread}, "
        f"{resources.concurrent_trials} trial(s) at once{at_once}, {resources.replicas} replica(s)"
    )


def workers_on(gpus: int, wanted: Resources) -> int | None:
    """How many workers have so many GPUs between them; None where no number of GPUs was told."""
    each = wanted.gpus_per_model
    if not gpus or not each:
        return None
    if gpus % each:
        raise ValueError(
            f"{gpus} GPU(s) cannot be shared by workers that have {each} each (--gpus-per-model); type --gpus {each}"
        )
    return gpus // each
