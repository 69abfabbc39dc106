"""POCKET, SMALL, FULL: complete base trials and the resources they want.

Each base trial has the translator that carried most where translators were compared (docs/LOG.md): the pocket pair, and
SmolLM2-135M on a GPU, which stands for `full` until somebody has compared them there. Prompt contrast is not among its
losses: it widens the difference to `shuffled`, mostly by making the wrong soft tokens worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evaluators.gsm8k import GSM8K
from evaluators.pocket import Pocket
from raybridge.config import typed
from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.stopping import Stopping
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a scale asks of a machine. Never part of a trial's identity.

    workers: training workers a trial; gpus_per_worker: 0 or 1; replicas: frozen replicas that evaluate for all trials;
    threads: torch threads a process on CPU.
    """

    VERSION: ClassVar[int] = 1

    workers: int
    gpus_per_worker: int
    cpus_per_worker: float
    replicas: int
    concurrent_trials: int
    threads: int

    def __post_init__(self) -> None:
        typed(self)
        if self.workers < 1 or self.replicas < 1 or self.concurrent_trials < 1 or self.threads < 1:
            raise ValueError("workers, replicas, concurrent trials and threads must each be at least 1")
        if self.gpus_per_worker not in (0, 1):
            raise ValueError(f"a worker has one GPU or none, not {self.gpus_per_worker}: two ranks cannot share one")

    @property
    def device(self) -> str:
        """What computes, as torch calls its kind."""
        return "cuda" if self.gpus_per_worker else "cpu"


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
    resources=Resources(workers=1, gpus_per_worker=0, cpus_per_worker=0.5, replicas=1, concurrent_trials=2, threads=1),
)

SMALL = Scale(
    name="small",
    trial=Trial(
        name="base",
        source="HuggingFaceTB/SmolLM2-135M-Instruct",
        target="HuggingFaceTB/SmolLM2-135M-Instruct",
        translator=Bottlenecked(soft_tokens=16, layers=(0, 2, 4, 12, 20, 30), width=384, depth=4, heads=6, picking="mean"),
        losses=(AnswerNLL(), Reconstruction(), InfoNCE()),
        evaluator=GSM8K(shots=0),
        steps=1500,
        batch=128,
        learning_rate=1e-3,
        warmup=100,
        eval_every=250,
        dev_problems=200,
        test_problems=500,
        stopping=Stopping(degradation=None),
    ),
    resources=Resources(workers=1, gpus_per_worker=1, cpus_per_worker=4, replicas=1, concurrent_trials=1, threads=4),
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
    resources=Resources(workers=4, gpus_per_worker=1, cpus_per_worker=4, replicas=4, concurrent_trials=1, threads=4),
)

SCALES = (POCKET, SMALL, FULL)
