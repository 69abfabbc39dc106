"""Requests of a trial by the names of arms, and what its translator writes for one."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from raybridge.arms import find
from raybridge.data import Split
from raybridge.evaluation.prompt import Prompt, prompt_of
from raybridge.evaluation.setting import BATCH, Request, setting_of
from raybridge.models.frozen import FrozenLM
from raybridge.trial import Trial


def requests_of(trial: Trial, split: Split, *arms: str, size: int = BATCH) -> list[Request]:
    return setting_of(trial, split).requests([find(arm) for arm in arms], size=size)


def with_arms(request: Request, *arms: str, **setting: object) -> Request:
    """The same batch before other arms, in a setting that differs in these fields."""
    return replace(request, arms=tuple(find(arm) for arm in arms), setting=replace(request.setting, **setting))


def soft_of(models, request: Request, weights) -> Tensor:
    """The soft tokens (B, K, D) that the translator writes for a request."""
    return models.written(with_arms(request, "bridged"), weights).values


def ask(request: Request, models, arm: str, weights=None) -> Prompt:
    """The prompts of one arm without exemplars."""
    asked = with_arms(request, arm)
    return prompt_of(asked, models, find(arm), models.written(asked, weights), shots=False, weights=weights)


def read_one_late(monkeypatch) -> None:
    """Have the states that predict a continuation be those of one token later: a fault that checks must see."""
    states = FrozenLM.continuation_states

    def one_late(self, pieces, rows, **how):
        hidden, ids, mask = states(self, pieces, [[*row, row[-1]] for row in rows], **how)
        return hidden[:, 1:], ids[:, 1:], mask[:, 1:]

    monkeypatch.setattr(FrozenLM, "continuation_states", one_late)
